"""The helpers of the course, one module per method; read `course_lib.directions` and `course_lib.steering`
first.

The modules stand on floors and import only downwards: `tokens`; `models`, `data`; `caching`, `directions`;
`steering`; `plotting`, `grading`. Notebooks write `from course_lib import directions, steering`, so that
every call shows where to read on.
"""
