"""The helpers of the course, one module per method. To read them, begin with `directions` and `steering`.

The modules stand on floors and import only downwards: `tokens`; `models`, `data`; `caching`, `directions`;
`steering`; `plotting`, `grading`. Notebooks write `from course_lib import directions, steering`, so that
every call shows where to read on.
"""

import contextlib
import warnings

warnings.filterwarnings("ignore", message="IProgress not found")  # tqdm then writes its bar as text, as it should here

NEEDED_GB = 3  # of addresses, in round numbers: PyTorch and transformers take two before a model is open

with contextlib.suppress(ImportError):  # Windows knows no such limit
    import resource

    allowed = resource.getrlimit(resource.RLIMIT_AS)[0]
    if 0 <= allowed < NEEDED_GB * 1e9:
        what = f"A limit on this process (ulimit -v, or a batch system's) leaves it {allowed / 1e9:.1f} GB of memory"
        raise MemoryError(f"{what}, and the course needs {NEEDED_GB}, better 4: raise it, and restart the kernel.")
