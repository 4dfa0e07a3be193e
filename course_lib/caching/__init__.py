"""Run prompts through a model and keep named activations at named positions, and nothing else.

`run_with_cache` keeps every activation of every token and unembeds all of them; for "the last token's
residual stream at every layer, for 1,024 prompts" that is hundreds of times the memory that is wanted.
`harvest` (`harvesting.py`) returns the same numbers:

1. prompts are sorted by length, so that little padding is computed;
2. one hook per name copies the wanted positions while the model runs, so that later edits cannot reach them;
3. the forward pass stops at the last hook that was asked for, and never reaches the unembedding;
4. a batch is cut so that its activations stay within a budget, and halved where the device is full all the same;
5. on a GPU the copies to the host run beside the next batch.

`stored_harvest` does the same into a folder, in shards (`course_lib.store`) that survive a crash, are shared by
all processes that ask for the same, and are read through a memory map. Under `accelerate launch` the processes
divide the shards. What both return is in `activations.py`, the forward passes are in `running.py`. `forecast` says
beforehand what a run will take on the machine at hand.
"""

from course_lib.caching.activations import Activations, StoredActivations
from course_lib.caching.forecasting import Forecast, forecast
from course_lib.caching.harvesting import harvest, stored_harvest

__all__ = ["Activations", "Forecast", "StoredActivations", "forecast", "harvest", "stored_harvest"]
