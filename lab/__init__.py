"""Marks for a class: learners' notebooks in; marks, feedback and class statistics out. Nobody's notebook is trusted.

`python course.py grade FOLDER` runs it. A notebook is read as data (`reading`), and only the answers in it are run, each
in a child of its own (`learner`) that is shut off from the machine (`isolation`). The child only answers calls: plain
data crosses (`wire`), and the verdict is found in another process (`judging`), which holds the checks, the worked
answers and the seeds. What an answer stands on comes from the teacher's own run of the complete notebook (`stage`).
"""
