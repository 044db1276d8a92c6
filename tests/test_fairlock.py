"""The lock of the networks: one at a time, again by the same thread, and in the order in which they came."""

from __future__ import annotations

import threading
import time

import pytest

from mam.fairlock import FairLock


def wait_for(condition) -> None:
    until = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.001)


def test_one_thread_at_a_time_and_the_same_one_again():
    lock, inside, most = FairLock(), [], []

    def work():
        for _ in range(200):
            with lock, lock:
                inside.append(1)
                most.append(len(inside))
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(most) == 1600 and max(most) == 1


def test_first_come_first_served_even_if_the_owner_comes_back_at_once():
    lock, order, waiting = FairLock(), [], []

    def come(name):
        with lock:
            order.append(name)

    with lock:
        for name in ("ann", "bob", "cal"):
            waiting.append(threading.Thread(target=come, args=(name,)))
            waiting[-1].start()
            wait_for(lambda: len(lock._waiting) == len(waiting))
    with lock:
        order.append("owner again")
    for thread in waiting:
        thread.join(10)
    assert order == ["ann", "bob", "cal", "owner again"]


def test_whoever_is_interrupted_while_waiting_holds_up_nobody(monkeypatch):
    lock = FairLock()
    holding, done = threading.Event(), threading.Event()

    def hold():
        with lock:
            holding.set()
            done.wait(10)

    holder = threading.Thread(target=hold)
    holder.start()
    holding.wait(10)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Event, "wait", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt), lock:
            pass
    assert not lock._waiting
    done.set()
    holder.join(10)
    with lock:
        pass


def test_only_the_owner_lets_go():
    with pytest.raises(RuntimeError, match="another thread"):
        FairLock().__exit__()
