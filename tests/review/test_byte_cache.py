from hardmil.review.byte_cache import ByteCache


def make_of(calls: list[str], name: str, size: int):
    def make() -> bytes:
        calls.append(name)
        return bytes(size)

    return make


def test_bytes_are_made_once_and_the_least_used_are_dropped():
    cache, calls = ByteCache(most_bytes=100), []
    for name in ("a", "b", "a", "c", "a", "b"):
        assert len(cache.get(name, make=make_of(calls, name, 40))) == 40
        assert cache.n_bytes <= 100
    # c pushed out b, which was used longer ago than a.
    assert calls == ["a", "b", "c", "b"]


def test_what_has_no_bytes_takes_no_place():
    cache, calls = ByteCache(), []
    for _ in range(2):
        assert cache.get("none", make=make_of(calls, "none", 0)) == b""
    assert calls == ["none", "none"]


def test_a_picture_larger_than_the_cache_is_given_and_not_kept():
    cache, calls = ByteCache(most_bytes=100), []
    for _ in range(2):
        assert len(cache.get("a", make=make_of(calls, "a", 200))) == 200
    assert calls == ["a", "a"]
    assert cache.n_bytes == 0
