"""Small checkpoints that are to a published model what a toy is to a car: the same parts, random weights. For tests only.

Each has its profile's architecture, tokenizer class, special tokens, end tokens and structure of chat template (written anew
here), and is saved as a user would save it. Norm gains are not one, biases not zero, embeddings tied as in the original.
"""

import json
from functools import cache
from pathlib import Path

import hub_server
import numpy
import torch

from benchmarks.published import family, tied
from course_lib import profiles

ROOT = Path(__file__).parents[1]
SYSTEM = "{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}{% endif %}"
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
)
TURN = "'<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' + message['content'] | trim + '<|eot_id|>'"
TEMPLATES = {
    "Qwen2": SYSTEM + CHATML + "{% endif %}",
    "Qwen3": CHATML
    + "{% if enable_thinking is defined and not enable_thinking %}{{ '<think>\n\n</think>\n\n' }}{% endif %}"
    "{% endif %}",
    "Llama": (
        "{% if date_string is not defined %}{% set date_string = strftime_now('%d %b %Y') %}{% endif %}"
        "{{ bos_token + '<|start_header_id|>system<|end_header_id|>\n\nToday Date: ' + date_string + '\n\n<|eot_id|>' }}"
        "{% for message in messages %}{{ " + TURN + " }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
    ),
    "Gemma": (
        "{{ bos_token }}{% for message in messages %}"
        "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}"
        "{{ '<start_of_turn>' + ('model' if message['role'] == 'assistant' else message['role']) + '\n' }}"
        "{{ message['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
    ),
}
SPECIAL = {
    "Qwen2": ("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
    "Qwen3": ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>"),
    "Llama": ("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
    "Gemma": ("<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "<start_of_turn>", "<end_of_turn>"),
}
D_SAE = 48
END = {
    "Qwen2": ("<|im_end|>", "<|endoftext|>"),
    "Llama": ("<|eot_id|>", "<|end_of_text|>"),
    "Gemma": ("<end_of_turn>", "<eos>"),
}
SHAPE = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "initializer_range": 0.2,
    "max_position_embeddings": 1024,
}
GEMMA = {"head_dim": 8, "query_pre_attn_scalar": 8, "sliding_window": 16}
ROPE = {
    "rope_type": "llama3",
    "rope_theta": 5e5,
    "factor": 32.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
EXTRAS = {
    "Llama": {"head_dim": 8, "rope_parameters": ROPE},
    "Qwen2": {},
    "Qwen3": {"head_dim": 8},
    "Gemma2": GEMMA | {"attn_logit_softcapping": 2.0, "final_logit_softcapping": 5.0},
    "Gemma3": GEMMA,
}


@cache
def tokenizer_of(kind: str):
    """A tokenizer of the family's own class, with pieces learned from the course's prompts."""
    import transformers
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

    rows = [
        json.loads((ROOT / "organisms" / "prompts" / f"{name}.json").read_text()) for name in ("harmful", "harmless")
    ]
    corpus = [prompt["text"] for row in rows for prompt in row["prompts"][:300]]
    corpus += [
        "As",
        "I cannot help with that. I'm sorry,",
        "\n\n",
        *"assistant user system model".split(),
    ] * 300  # one token each
    learner = Tokenizer(models.BPE(byte_fallback=kind == "Gemma"))
    special, alphabet = list(SPECIAL[kind]), pre_tokenizers.ByteLevel.alphabet()
    if kind == "Gemma":
        special, alphabet = [*special, *(f"<0x{byte:02X}>" for byte in range(256))], []
        learner.normalizer = normalizers.Replace(" ", "▁")
        learner.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
        corpus += ["\n"]
    else:
        learner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    learner.train_from_iterator(
        corpus, trainers.BpeTrainer(vocab_size=900, special_tokens=special, initial_alphabet=alphabet)
    )
    learned = json.loads(learner.to_str())["model"]
    merges = [tuple(pair) for pair in learned["merges"]]
    options = {
        "chat_template": TEMPLATES[kind],
        "model_max_length": 1024,
        "additional_special_tokens": list(SPECIAL[kind][-2:]),
    }
    if kind == "Gemma":
        return transformers.GemmaTokenizer(vocab=learned["vocab"], merges=merges, **options)
    if kind == "Llama":
        from tokenizers import decoders

        learner.decoder = decoders.ByteLevel()
        options["additional_special_tokens"] = list(SPECIAL[kind][2:])
        return transformers.PreTrainedTokenizerFast(
            tokenizer_object=learner, bos_token="<|begin_of_text|>", eos_token="<|eot_id|>", **options
        )
    options["additional_special_tokens"] = list(SPECIAL["Qwen2"][1:])
    tokenizer = transformers.Qwen2Tokenizer(
        vocab=learned["vocab"], merges=merges, eos_token="<|im_end|>", pad_token="<|endoftext|>", **options
    )
    tokenizer.add_tokens(list(SPECIAL[kind][3:]))
    return tokenizer


def save(name: str, folder: Path, *, n_layers: int = 4, seed: int = 0) -> Path:
    """Write a small checkpoint of the profile's kind."""
    import transformers

    architecture = family(name)
    kind = architecture.rstrip("23") if "Gemma" in architecture else architecture
    tokenizer = tokenizer_of(kind)
    size = (len(tokenizer) + 63) // 64 * 64  # published embeddings have rows that no token uses
    extras = EXTRAS[architecture] | ({"layer_types": _layer_types(n_layers)} if architecture == "Gemma3" else {})
    text = "Text" if architecture == "Gemma3" else ""
    ends = tokenizer.convert_tokens_to_ids(list(END[kind.replace("Qwen3", "Qwen2")]))
    config = getattr(transformers, f"{architecture}{text}Config")(
        vocab_size=size,
        num_hidden_layers=n_layers,
        tie_word_embeddings=tied(name),
        **SHAPE,
        **extras,
        eos_token_id=ends,
        bos_token_id=tokenizer.bos_token_id,
        pad_token_id=tokenizer.pad_token_id or 0,
    )
    torch.manual_seed(seed)
    network = getattr(transformers, f"{architecture}ForCausalLM")(config)
    for key, weight in network.named_parameters():
        if "norm" in key:
            weight.data += 0.8 * torch.rand_like(weight) - 0.2
        elif key.endswith("bias"):
            weight.data = 0.3 * torch.randn_like(weight)
    network.generation_config.eos_token_id = ends
    network.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _layer_types(n_layers: int) -> list[str]:
    return ["full_attention" if layer % 3 == 2 else "sliding_attention" for layer in range(n_layers)]


# --- dictionaries, as they are on the hub --------------------------------------------------------------------


def dictionary_weights(seed: int, kind: str) -> dict[str, torch.Tensor]:
    """Random weights of a small dictionary under the names of its format, "qwen" or "gemma"."""
    random, d_model = torch.Generator().manual_seed(seed), SHAPE["hidden_size"]
    w = {"w_enc": torch.randn(d_model, D_SAE, generator=random), "w_dec": torch.randn(D_SAE, d_model, generator=random)}
    w |= {"b_enc": 0.1 * torch.randn(D_SAE, generator=random), "b_dec": 0.1 * torch.randn(d_model, generator=random)}
    if kind == "qwen":
        return {"W_enc": w["w_enc"].T.contiguous(), "W_dec": w["w_dec"], "b_enc": w["b_enc"], "b_dec": w["b_dec"]}
    return w | {"threshold": 0.5 + torch.rand(D_SAE, generator=random)}


def put_dictionaries(hub: hub_server.Hub, name: str, folder: Path, kind: profiles.Kind, *, n_layers: int = 4) -> None:
    """Put the files of a profile's release onto the hub, small, in the format of its publisher, for the layers there are."""
    from sae_lens.loading.pretrained_saes_directory import get_pretrained_saes_directory
    from safetensors.torch import save_file

    release = profiles.get(name).of_kind(kind)
    entry = get_pretrained_saes_directory()[release.release]
    for layer in [layer for layer in release.layers if layer < n_layers]:
        place = entry.saes_map[dict(release.ids)[layer]]
        if entry.conversion_func in ("gemma_2", "gemma_2_transcoder"):
            (folder / place).mkdir(parents=True, exist_ok=True)
            arrays = {key: value.numpy() for key, value in dictionary_weights(layer, "gemma").items()}
            numpy.savez(
                folder / place / "params.npz",
                **{k.replace("w_", "W_") if "trans" in entry.repo_id else k: v for k, v in arrays.items()},
            )
        elif entry.conversion_func == "gemma_3":
            (folder / place).mkdir(parents=True, exist_ok=True)
            save_file(dictionary_weights(layer, "gemma"), folder / place / "params.safetensors")
            about = {
                "architecture": "jump_relu",
                "model_name": "gemma-v3",
                "affine_connection": False,
                "hf_hook_point_in": f"model.layers.{layer}.pre_feedforward_layernorm.output",
            }
            (folder / place / "config.json").write_text(json.dumps(about))
        else:
            folder.mkdir(exist_ok=True)
            save_file(dictionary_weights(layer, "qwen"), folder / place)
            (folder / "config.yaml").write_text("model_name: Qwen/Qwen3-0.6B\n")
            (folder / "wandb-config.yaml").write_text(
                f"d_model: {{value: {SHAPE['hidden_size']}}}\nd_feature: {{value: {D_SAE}}}\nbatch_size: {{value: 64}}\n"
            )
    hub.add(entry.repo_id, folder)


def let_sae_lens_read_small_ones(monkeypatch) -> None:
    """Make small the sizes that sae_lens writes down for Gemma 2. The directory itself is the installed one."""
    import sae_lens.saes.sae as module

    d_model = SHAPE["hidden_size"]
    shrunk = {"gemma-scope-2b": {"d_in": d_model, "d_sae": D_SAE}, "transcoders": {"d_out": d_model}}
    original = module.get_config_overrides

    def overrides(release, sae_id):
        found = dict(original(release, sae_id) or {})
        for part, sizes in shrunk.items():
            found |= sizes if part in release and "gemma-scope-2b" in release else {}
        return found or None

    monkeypatch.setattr(module, "get_config_overrides", overrides)
    monkeypatch.setattr(
        "sae_lens.loading.pretrained_sae_loaders.get_safetensors_tensor_shapes",
        lambda repo_id, filename: {"w_enc": [d_model, D_SAE], "w_dec": [D_SAE, d_model]},
    )  # in this process asked of the hub's own address; in one that was started with HF_ENDPOINT, of that


# --- all that a profile names, on one hub -------------------------------------------------------------------


def put_stand_in(hub: hub_server.Hub, name: str, folder: Path, *, n_layers: int) -> None:
    """Put a small model under the profile's name, revision and gate onto the hub, with small ones of all its dictionaries.

    In this process call `let_sae_lens_read_small_ones`, too; a gated model wants the token `hub_server.MEMBER` (`HF_TOKEN`).
    """
    about = profiles.get(name)
    hub.add(name, save(name, folder / "model", n_layers=n_layers), commit=about.revision, gated=about.gated)
    for release in about.releases:
        put_dictionaries(
            hub, name, folder / "dictionaries", release.kind, n_layers=n_layers
        )  # kinds may share a repository
