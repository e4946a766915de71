"""Our YAML as a way out: :mod:`~kasal_jupyter.formats.yaml_crew` with a list of what it cannot hold."""

from __future__ import annotations

from kasal_jupyter.formats.outline import Exported, file_name, outline
from kasal_jupyter.formats.yaml_crew import dump_crew
from kasal_jupyter.schemas.crews import CrewCreate
from kasal_jupyter.schemas.exchange import Remark


def export_yaml(crew: CrewCreate) -> Exported:
    """Write a crew as our YAML, which is read back to the same crew."""
    found = outline(crew)
    remarks = list(found.remarks)
    tasks = []
    for place, (task, texts) in enumerate(zip(found.crew.tasks, found.texts, strict=True)):
        entries = []
        for text in texts:
            alone = not any(char.isspace() for char in text)
            # One word is read as a task's name.
            entries.append(f"{text} " if alone else text)
            if alone:
                remarks.append(
                    Remark(
                        field=f"tasks[{place}].context",
                        reason=f"{text!r} has a blank behind it there, or it would be read as a task's name",
                    )
                )
        if entries:
            task = task.model_copy(update={"context": [*(task.context or ()), *entries]})  # noqa: PLW2901
        tasks.append(task)
    text = dump_crew(found.crew.model_copy(update={"tasks": tasks}))
    return Exported({f"{file_name(crew.name)}.yaml": text}, remarks)
