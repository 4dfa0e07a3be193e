"""The attribution graph of one prompt by circuit-tracer, on a shipped organism and its shipped transcoders.

Runs in an environment of its own and shares no code with `course_lib`: weights are read from the files, converted by
TransformerLens' own function. The transcoders read the MLP's input; circuit-tracer's hook there fires before the norm's
weight, so that weight is multiplied into the encoder. Features of position 0 are left out, as circuit-tracer does.

    python run_circuit_tracer.py ORGANISM_FOLDER TRANSCODER_FOLDERS REQUEST.json OUT.npz
"""

import json
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
import torch
from circuit_tracer import attribute
from circuit_tracer.replacement_model.replacement_model_transformerlens import TransformerLensReplacementModel
from circuit_tracer.transcoder.activation_functions import JumpReLU
from circuit_tracer.transcoder.single_layer_transcoder import SingleLayerTranscoder, TranscoderSet
from safetensors.torch import load_file
from tokenizers import Tokenizer
from transformer_lens import HookedTransformerConfig
from transformer_lens.pretrained.weight_conversions import convert_llama_weights
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast


def network(folder: Path) -> tuple[LlamaForCausalLM, HookedTransformerConfig]:
    """The organism as transformers runs it, and the same shape in TransformerLens' words."""
    facts = json.loads((folder / "config.json").read_text())
    rope = facts.pop("rope_parameters")
    llama = LlamaForCausalLM(LlamaConfig(**facts, rope_theta=rope["rope_theta"])).float().eval()
    llama.load_state_dict({name: w.float() for name, w in load_file(folder / "model.safetensors").items()})
    cfg = HookedTransformerConfig(
        n_layers=facts["num_hidden_layers"],
        d_model=facts["hidden_size"],
        d_head=facts["head_dim"],
        n_heads=facts["num_attention_heads"],
        d_mlp=facts["intermediate_size"],
        d_vocab=facts["vocab_size"],
        n_ctx=facts["max_position_embeddings"],
        n_key_value_heads=facts["num_key_value_heads"],
        eps=facts["rms_norm_eps"],
        act_fn="silu",
        normalization_type="RMS",
        gated_mlp=True,
        final_rms=True,
        positional_embedding_type="rotary",
        rotary_dim=facts["head_dim"],
        rotary_base=int(rope["rope_theta"]),
        rotary_adjacent_pairs=False,
        device="cpu",
        dtype=torch.float32,
        model_name="organism",
        seed=0,
    )
    return llama, cfg


def transcoders(root: Path, llama: LlamaForCausalLM) -> TranscoderSet:
    made = {}
    for layer, block in enumerate(llama.model.layers):
        weights = load_file(root / f"transcoder-{layer}" / "sae_weights.safetensors")
        weights = {name: weight.float() for name, weight in weights.items()}
        d_sae, d_model = weights["W_dec"].shape
        one = SingleLayerTranscoder(d_model, d_sae, JumpReLU(weights["threshold"]), layer, dtype=torch.float32)
        gain = block.post_attention_layernorm.weight.data
        one.W_enc.data = (gain[:, None] * weights["W_enc"]).T.contiguous()
        for name in ("W_dec", "b_enc", "b_dec"):
            getattr(one, name).data = weights[name]
        made[layer] = one
    return TranscoderSet(made, "ln2.hook_normalized", "hook_mlp_out")


def replacement(folder: Path, root: Path) -> tuple[TransformerLensReplacementModel, LlamaForCausalLM]:
    llama, cfg = network(folder)
    state = {}
    for name, weight in convert_llama_weights(llama, cfg).items():
        name = name.replace(".mlp.", ".mlp.old_mlp.").replace("unembed.", "unembed.old_unembed.")
        state[name] = weight
    marks = {"bos_token": "<bos>", "eos_token": "<end>", "pad_token": "<pad>", "unk_token": "<unk>"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_file(str(folder / "tokenizer.json")), **marks)
    with tempfile.TemporaryDirectory() as saved:  # TransformerLens opens a tokenizer again by the name of its folder
        tokenizer.save_pretrained(saved)
        tokenizer = PreTrainedTokenizerFast.from_pretrained(saved)
        model = TransformerLensReplacementModel.from_config(cfg, transcoders(root, llama), tokenizer=tokenizer)
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected and not [name for name in missing if "W_" in name and "transcoder" not in name], missing
    return model, llama


def main(folder: str, root: str, request: str, out: str) -> None:
    torch.set_num_threads(1)
    asked = json.loads(Path(request).read_text())
    model, llama = replacement(Path(folder), Path(root))
    ids = torch.tensor(asked["prompt_ids"])
    with torch.no_grad():
        gap = (model(ids[None]) - llama(ids[None]).logits).abs().max()
    assert gap < 1e-3, f"the converted model differs from the organism by {gap}"
    seconds = []
    for _ in range(asked["repeats"]):
        start = time.process_time()
        graph = attribute(ids, model, attribution_targets=torch.tensor(asked["tokens"]), batch_size=64)
        seconds.append(time.process_time() - start)
    features, edges = graph.active_features[graph.selected_features], graph.adjacency_matrix
    np.savez_compressed(out, features=features.numpy().astype(np.int16), edges=edges.numpy(), seconds=median(seconds))


if __name__ == "__main__":
    main(*sys.argv[1:])
