import threading

from kasal_jupyter.store.turnstile import Turnstile


def test_one_stands_in_at_a_time(tmp_path):
    first, second = Turnstile(tmp_path, patience=60), Turnstile(tmp_path, patience=60)
    order = []

    def follow():
        with second:
            order.append("second")

    with first:
        following = threading.Thread(target=follow)
        following.start()
        order.append("first")
    following.join()
    assert order == ["first", "second"]
    first.close()
    second.close()


def test_nobody_waits_for_ever_behind_one_that_does_not_move(tmp_path):
    first, second = Turnstile(tmp_path, patience=60), Turnstile(tmp_path, patience=0)
    with first, second:
        pass
    first.close()
    second.close()
