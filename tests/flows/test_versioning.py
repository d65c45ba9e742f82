"""DVC's repository in several threads of one process."""

import threading

from projects import make_project

from flows import versioning


def test_the_repository_is_opened_by_one_thread_at_a_time(tmp_path):
    """The stages `evaluate` and `export` ask for their state at the same time. DVC's schemas keep
    state while they check a file, and said now and then that a valid dvc.yaml is invalid."""
    root = make_project(tmp_path / "project").root
    inside, leave, found = threading.Event(), threading.Event(), []

    def stay():
        with versioning._repo(root):
            inside.set()
            leave.wait(60)
            found.append("the first has left")

    def ask():
        found.append(versioning.why_stale(root, "prepare"))

    first, second = threading.Thread(target=stay), threading.Thread(target=ask)
    first.start()
    assert inside.wait(60)
    second.start()
    second.join(1)  # it takes 0.2 s if nobody is inside
    assert found == []
    leave.set()
    first.join()
    second.join(60)
    assert found[0] == "the first has left"
    assert found[1]
