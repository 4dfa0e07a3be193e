"""A stored harvest survives crashes, company and damage, and holds the numbers of the plain full cache."""

import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import weakref
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from course_lib import caching, models, steering, store
from course_lib.caching import harvesting

NAMES = ["blocks.1.hook_resid_pre", "blocks.3.hook_resid_post"]
N_PROMPTS = 10


@pytest.fixture(scope="module")
def many(prompts):
    """Ten prompts of mixed length: in shards of two, five shards."""
    return [[*prompts[number % 6], *[5] * (number // 6)] for number in range(N_PROMPTS)]


@pytest.fixture(autouse=True)
def two_prompts_a_shard(monkeypatch):
    monkeypatch.setattr(harvesting, "SHARD_PROMPTS", 2)


def stored(model, prompts, folder, **options):
    options = {"hook_names": NAMES, "positions": [0, "last"], **options}
    return caching.stored_harvest(model, prompts, folder=folder, progress=False, **options)


def in_memory(model, prompts, **options):
    options = {"hook_names": NAMES, "positions": [0, "last"], **options}
    return caching.harvest(model, prompts, progress=False, **options)


def full_cache(model, prompts):
    """By TransformerLens' own cache, one prompt at a time: [prompt, position, hook, d_model]."""
    rows = []
    for prompt in prompts:
        with torch.no_grad():
            cache = model.run_with_cache(torch.tensor([prompt]))[1]
        rows.append(torch.stack([cache[name][0, [0, -1]] for name in NAMES], dim=1))
    return torch.stack(rows)


def shard_files(folder):
    return sorted(Path(folder).glob("*/shard-*.safetensors"))


def count_passes(monkeypatch):
    """A list that grows by the size of each batch that is run."""
    sizes, run_body = [], models.run_body

    def counted(model, tokens):
        sizes.append(len(tokens))
        run_body(model, tokens)

    monkeypatch.setattr(models, "run_body", counted)
    return sizes


# --- values -------------------------------------------------------------------------------------------------


def test_stored_values_equal_the_plain_full_cache_in_the_order_of_the_prompts(model, many, tmp_path):
    harvested = stored(model, many, tmp_path)
    assert len(shard_files(tmp_path)) == 5
    torch.testing.assert_close(harvested.load().values, full_cache(model, many), rtol=1e-4, atol=1e-4)
    assert (harvested.hook_names, harvested.positions) == (tuple(NAMES), (0, "last"))


def test_what_is_stored_is_what_harvest_returns_for_each_label(model, many, tmp_path):
    harvested, plain = stored(model, many, tmp_path), in_memory(model, many)
    for layer in (1, 3):
        for position in (0, "last"):
            torch.testing.assert_close(harvested.at(layer, position), plain.at(layer, position))
    with pytest.raises(ValueError, match="Position None was not harvested"):
        harvested.at(1)
    with pytest.raises(ValueError, match="0 harvested hooks match 2"):
        harvested.at(2, "last")


def test_parts_are_memory_maps_that_together_hold_every_prompt_once(model, many, tmp_path):
    harvested, seen = stored(model, many, tmp_path), []
    values = harvested.load().values
    for members, part in harvested.parts():
        assert torch.equal(values[members], part)
        assert harvested.folder.as_posix() in Path("/proc/self/maps").read_text()
        seen += members
    assert sorted(seen) == list(range(N_PROMPTS))


def test_a_second_call_computes_nothing_and_returns_the_same_bits(model, many, tmp_path, monkeypatch):
    first = stored(model, many, tmp_path).load().values
    sizes = count_passes(monkeypatch)
    assert torch.equal(stored(model, many, tmp_path).load().values, first)
    assert sizes == []


def test_half_precision_on_disk_takes_half_the_space_and_reads_as_float32(model, many, tmp_path):
    exact, half = (stored(model, many, tmp_path, dtype=dtype) for dtype in (torch.float32, torch.bfloat16))
    assert exact.folder != half.folder
    values = half.load().values
    assert values.dtype == torch.float32
    assert torch.equal(values, exact.load().values.bfloat16().float())
    assert next(half.parts())[1].dtype == torch.bfloat16


def test_values_too_large_for_the_number_type_on_disk_are_refused(model, many, tmp_path):
    big = models.load("chat")  # any second model, to be spoilt
    with torch.no_grad():
        big.embed.original_component.weight.mul_(1e6)
    with pytest.raises(ValueError, match="too large for torch.float16. Store them as torch.bfloat16"):
        stored(big, many, tmp_path, hook_names=["blocks.0.hook_resid_pre"], dtype=torch.float16)


# --- the key ------------------------------------------------------------------------------------------------


def test_whatever_decides_the_values_decides_the_folder(model, many, tmp_path, monkeypatch):
    folders = [stored(model, many, tmp_path).folder]
    folders.append(stored(model, many[::-1], tmp_path).folder)
    folders.append(stored(model, many, tmp_path, hook_names=NAMES[::-1]).folder)
    folders.append(stored(model, many, tmp_path, positions=[1, "last"]).folder)
    monkeypatch.setattr(harvesting.importlib.metadata, "version", lambda name: "0")
    folders.append(stored(model, many, tmp_path).folder)
    assert len(set(folders)) == len(folders)


def test_an_edited_weight_has_another_key_and_the_old_one_again_after_the_edit(model, many, tmp_path):
    before = stored(model, many, tmp_path)
    weight = model.blocks[0].mlp.out.original_component.weight
    old = weight.detach().clone()
    with torch.no_grad():
        weight[0, 0] += 0.5
        edited = stored(model, many, tmp_path)
        weight.copy_(old)
    assert edited.folder != before.folder
    assert not torch.equal(edited.at(3, "last"), before.at(3, "last"))
    assert stored(model, many, tmp_path).folder == before.folder


def test_the_same_model_in_another_folder_has_the_same_fingerprint(checkpoint, model, tmp_path):
    import shutil

    shutil.copytree(checkpoint, tmp_path / "elsewhere")
    other = models.load(str(tmp_path / "elsewhere"))
    assert store.fingerprint(other.original_model) == store.fingerprint(model.original_model)
    half = models.load(str(checkpoint), dtype=torch.bfloat16)
    assert store.fingerprint(half.original_model) != store.fingerprint(model.original_model)


def test_the_facts_behind_a_key_can_be_read_by_people(model, many, tmp_path):
    facts = json.loads((stored(model, many, tmp_path).folder / "facts.json").read_text())
    assert facts["hook_names"] == NAMES and facts["versions"]["torch"].startswith("2.")


def test_active_hooks_are_refused_since_no_key_describes_them(model, many, tmp_path):
    with steering.ablate(model, torch.ones(32)), pytest.raises(ValueError, match="active hooks.*abliteration"):
        stored(model, many, tmp_path)


# --- damage -------------------------------------------------------------------------------------------------


def test_a_truncated_shard_is_refused_by_name_before_any_work(model, many, tmp_path, monkeypatch):
    stored(model, many, tmp_path)
    shard = shard_files(tmp_path)[2]
    shard.write_bytes(shard.read_bytes()[:-100])
    sizes = count_passes(monkeypatch)
    with pytest.raises(ValueError, match="shard-00002-of-00005.safetensors was truncated.*Delete this file"):
        stored(model, many, tmp_path)
    assert sizes == []


@pytest.mark.parametrize("place", [-1, -700, 100, 0])
def test_a_single_flipped_bit_is_refused_by_name(model, many, tmp_path, place):
    """In the last value, in the first ones, in the header, in the header's length."""
    stored(model, many, tmp_path)
    shard = shard_files(tmp_path)[1]
    content = bytearray(shard.read_bytes())
    content[place] ^= 1
    shard.write_bytes(content)
    with pytest.raises(ValueError, match="shard-00001-of-00005.safetensors"):
        stored(model, many, tmp_path).load()


def test_a_shard_of_another_key_is_refused_by_name(model, many, tmp_path):
    ours, theirs = stored(model, many, tmp_path), stored(model, many[::-1], tmp_path)
    name = "shard-00000-of-00005.safetensors"
    (ours.folder / name).write_bytes((theirs.folder / name).read_bytes())
    with pytest.raises(ValueError, match=f"{name} belongs to another model, request or place"):
        stored(model, many, tmp_path)


def test_a_shard_in_the_place_of_another_is_refused_by_name(model, many, tmp_path):
    stored(model, many, tmp_path)
    files = shard_files(tmp_path)
    files[3].write_bytes(files[0].read_bytes())
    with pytest.raises(ValueError, match="shard-00003.* belongs to another"):
        stored(model, many, tmp_path)


def test_a_file_that_we_did_not_write_is_refused_by_name(model, many, tmp_path):
    stored(model, many, tmp_path)
    shard = shard_files(tmp_path)[4]
    save_file(load_file(shard), shard)  # the same values, without key and checksum
    with pytest.raises(ValueError, match="shard-00004"):
        stored(model, many, tmp_path)


def test_a_deleted_shard_is_computed_again_to_the_same_bits(model, many, tmp_path, monkeypatch):
    before = stored(model, many, tmp_path).load().values
    shard_files(tmp_path)[2].unlink()
    sizes = count_passes(monkeypatch)
    assert torch.equal(stored(model, many, tmp_path).load().values, before)
    assert sum(sizes) == 2


def test_an_interrupt_leaves_finished_shards_and_no_hook(model, many, tmp_path, monkeypatch):
    write, written = store.Shards.write, []

    def interrupted(self, number, values):
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(number)
        write(self, number, values)

    monkeypatch.setattr(store.Shards, "write", interrupted)
    with pytest.raises(KeyboardInterrupt) as held:  # the traceback is alive, as in a notebook
        stored(model, many, tmp_path)
    assert not models.has_hooks(model) and held
    assert len(shard_files(tmp_path)) == 2


# --- other processes ----------------------------------------------------------------------------------------

CHILD = """
import json, os, signal, sys
import torch
torch.set_num_threads(1)
from course_lib import caching, models
from course_lib.caching import harvesting

folder, checkpoint, prompts, die_at = sys.argv[1], sys.argv[2], json.loads(sys.argv[3]), int(sys.argv[4])
harvesting.SHARD_PROMPTS = 2
model = models.load(checkpoint, device="cpu")
computed, shard, replace = [], harvesting._shard, os.replace

def counted(runner, members):
    computed.append(members)
    return shard(runner, members)

def deadly(draft, path):
    if len(computed) == die_at and "shard" in str(path):
        os.kill(os.getpid(), signal.SIGKILL)  # the draft is written, the shard is not there
    replace(draft, path)

harvesting._shard, os.replace = counted, deadly
if len(sys.argv) > 5:
    print("ready", flush=True)
    sys.stdin.readline()  # both processes begin at once
names = ["blocks.1.hook_resid_pre", "blocks.3.hook_resid_post"]
stored = caching.stored_harvest(
    model, prompts, folder=folder, hook_names=names, positions=[0, "last"], progress=False
)
print(json.dumps({"computed": computed, "sum": stored.load().values.double().sum().item()}), flush=True)
"""


def child(folder, checkpoint, prompts, *, die_at=-1, together=False, environment=None):
    root = str(Path(__file__).parents[1])
    arguments = [str(folder), str(checkpoint), json.dumps(prompts), str(die_at), *["wait"] * together]
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, *arguments],
        env={**os.environ, "PYTHONPATH": root, "OMP_NUM_THREADS": "1", **(environment or {})},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def answer(process, **options):
    out, err = process.communicate(timeout=300, **options)
    assert process.returncode == 0, err[-2000:]
    return json.loads(out.strip().splitlines()[-1])


def test_a_harvest_killed_in_the_middle_goes_on_to_the_same_bits(model, checkpoint, many, tmp_path, monkeypatch):
    undisturbed = stored(model, many, tmp_path / "undisturbed").load().values
    killed = child(tmp_path / "killed", checkpoint, many, die_at=3)
    killed.communicate(timeout=300)
    assert killed.returncode == -signal.SIGKILL
    assert len(shard_files(tmp_path / "killed")) == 2
    assert list((tmp_path / "killed").glob("*/.*.draft")), "it was killed between writing and renaming"
    sizes = count_passes(monkeypatch)
    resumed = stored(model, many, tmp_path / "killed").load().values
    assert sum(sizes) == N_PROMPTS - 4
    assert torch.equal(resumed, undisturbed)


def test_two_processes_may_fill_one_store_at_once(model, checkpoint, many, tmp_path, monkeypatch):
    pair = [child(tmp_path, checkpoint, many, together=True) for _ in range(2)]
    for process in pair:
        assert process.stdout.readline() == "ready\n"
    for process in pair:
        process.stdin.write("\n")
        process.stdin.flush()
    sums = [answer(process)["sum"] for process in pair]
    sizes = count_passes(monkeypatch)
    values = stored(model, many, tmp_path).load().values
    assert sizes == [] and sums == [values.double().sum().item()] * 2
    torch.testing.assert_close(values, full_cache(model, many), rtol=1e-4, atol=1e-4)
    assert not list(tmp_path.glob("*/.*.draft"))


def test_processes_of_one_accelerate_launch_divide_the_shards(model, checkpoint, many, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    world = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "ACCELERATE_USE_CPU": "true"}
    ranks = [{**world, "RANK": rank, "LOCAL_RANK": rank} for rank in "01"]  # what accelerate launch sets
    pair = [child(tmp_path, checkpoint, many, environment=rank) for rank in ranks]
    answers = [answer(process) for process in pair]
    shares = [{tuple(members) for members in each["computed"]} for each in answers]
    assert sorted(map(len, shares)) == [2, 3] and not shares[0] & shares[1]
    assert answers[0]["sum"] == answers[1]["sum"]
    torch.testing.assert_close(
        stored(model, many, tmp_path).load().values, full_cache(model, many), rtol=1e-4, atol=1e-4
    )


# --- memory -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [1, 2, 3])
def test_a_batch_that_does_not_fit_is_halved_until_it_does(model, many, tmp_path, limit, monkeypatch):
    """The device is made to be full for more than `limit` prompts, by a hook as late as block 2."""
    monkeypatch.setattr(harvesting, "SHARD_PROMPTS", 256)
    sizes, expected = [], full_cache(model, many)

    def full(module, arguments):
        sizes.append(len(arguments[0]))
        if len(arguments[0]) > limit:
            raise torch.OutOfMemoryError("the device is full")

    handle = model.blocks[2].register_forward_pre_hook(full)
    try:
        plain, on_disk = in_memory(model, many), stored(model, many, tmp_path).load()
    finally:
        handle.remove()
    for values in (plain.values, on_disk.values):
        torch.testing.assert_close(values, expected, rtol=1e-4, atol=1e-4)
    assert max(sizes) > limit
    assert sum(size for size in sizes if size <= limit) == 2 * N_PROMPTS, "no prompt is computed twice"


def test_after_one_halving_no_larger_batch_is_tried(model, many):
    sizes, same_length = [], [many[0]] * 16

    def full(module, arguments):
        sizes.append(len(arguments[0]))
        if len(arguments[0]) > 4:
            raise torch.OutOfMemoryError("the device is full")

    handle = model.blocks[2].register_forward_pre_hook(full)
    try:
        in_memory(model, same_length, batch_size=8)
    finally:
        handle.remove()
    assert sizes == [8, 4, 4, 4, 4]


def test_a_prompt_that_does_not_fit_alone_is_named(model, many):
    def full(module, arguments):
        raise torch.OutOfMemoryError("the device is full")

    handle = model.blocks[2].register_forward_pre_hook(full)
    try:
        with pytest.raises(torch.OutOfMemoryError, match="Prompt 1 with 6 tokens does not fit.*even alone"):
            in_memory(model, many)
    finally:
        handle.remove()
    assert not models.has_hooks(model)


class PeakMemory(TorchDispatchMode):
    """Most bytes alive at once in tensors that were made in this context."""

    def __init__(self, known):
        super().__init__()
        self.live, self.now, self.peak = {tensor.untyped_storage()._cdata: 0 for tensor in known}, 0, 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                self.note(tensor.untyped_storage())
        return result

    def note(self, storage):
        if storage._cdata not in self.live:
            self.live[storage._cdata] = storage.nbytes()
            self.now += storage.nbytes()
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self.free, storage._cdata)

    def free(self, storage):
        self.now -= self.live.pop(storage)


def peak_of(model, prompts, **options):
    with PeakMemory([*model.original_model.parameters(), *model.original_model.buffers()]) as memory:
        harvested = in_memory(model, prompts, **options)
    return memory.peak - harvested.values.nbytes


@pytest.mark.parametrize("n_tokens", [8, 30, 60])
def test_a_budget_bounds_the_memory_of_a_batch_and_is_used(model, n_tokens):
    prompts, budget = [[5 + number % 50] * n_tokens for number in range(96)], 500_000
    free, bound = (peak_of(model, prompts, batch_size=96, max_memory=limit) for limit in (None, budget))
    assert budget / 8 < bound <= budget < free


def test_values_do_not_depend_on_the_budget(model, many):
    free, bound = in_memory(model, many), in_memory(model, many, max_memory=150_000)
    torch.testing.assert_close(free.values, bound.values, rtol=1e-4, atol=1e-4)


def test_a_budget_too_small_for_the_longest_prompt_is_refused_before_any_work(model, many, tmp_path, monkeypatch):
    sizes = count_passes(monkeypatch)
    longest = max(map(len, many))
    for call in (in_memory, lambda *_, **options: stored(model, many, tmp_path, **options)):
        with pytest.raises(ValueError, match=f"max_memory is 1,000 bytes, but one prompt of {longest} tokens"):
            call(model, many, max_memory=1000)
    assert sizes == []


# --- the files themselves -----------------------------------------------------------------------------------


def test_a_file_is_replaced_as_a_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "file"
    store.write_atomically(path, b"old")

    def fails(descriptor):
        raise OSError("No space left on device")

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(OSError, match="No space left"):
        store.write_atomically(path, b"new, and longer")
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def test_an_old_draft_of_a_killed_process_is_removed_and_a_new_one_left_to_its_writer(tmp_path):
    folder = store.Shards(tmp_path, {"a": 1}, 1).folder
    old, new = folder / ".shard-0.1.a.draft", folder / ".shard-0.2.b.draft"
    for draft in (old, new):
        draft.write_bytes(b"half")
    os.utime(old, (0, 0))
    store.Shards(tmp_path, {"a": 1}, 1)
    assert not old.exists() and new.exists()


def test_a_shard_that_nobody_has_finished_cannot_be_read(tmp_path):
    shards = store.Shards(tmp_path, {"what": "a test"}, 2)
    shards.write(1, torch.arange(3.0))
    assert shards.missing() == [0] and torch.equal(shards.read(1), torch.arange(3.0))
    with pytest.raises(FileNotFoundError, match="shard-00000"):
        shards.read(0)


def test_the_checksum_of_a_shard_is_that_of_its_bytes(tmp_path):
    from safetensors import safe_open

    shards = store.Shards(tmp_path, {"what": "a test"}, 1)
    values = torch.randn(3, 4, generator=torch.Generator().manual_seed(0)).T  # not contiguous
    shards.write(0, values)
    with safe_open(shards.path(0), framework="pt") as file:
        assert file.metadata()["sha256"] == hashlib.sha256(values.contiguous().numpy().tobytes()).hexdigest()


def test_weights_without_content_have_no_fingerprint():
    with pytest.raises(ValueError, match="bias is on the device 'meta'"):
        store.fingerprint(torch.nn.Linear(2, 2, device="meta"))
