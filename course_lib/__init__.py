"""The helpers of the course, one module per method. To read them, begin with `directions` and `steering`.

The modules stand on floors and import only downwards: `tokens`; `models`, `data`; `caching`, `directions`;
`steering`; `plotting`, `grading`. Notebooks write `from course_lib import directions, steering`, so that
every call shows where to read on.
"""

import warnings

warnings.filterwarnings("ignore", message="IProgress not found")  # tqdm then writes its bar as text, as it should here
