import pytest

from hardmil.files.thrift import ThriftError, read_struct


def test_fields_of_every_type_are_read():
    content = bytes(
        [
            *(0x15, 0x03),  # field 1, i32: -2 as zigzag
            *(0x11, 0x12),  # fields 2 and 3: true, false
            *(0x13, 0x07),  # field 4, a byte
            *(0x17, *range(8)),  # field 5, a double
            *(0x18, 0x02, 0x61, 0x62),  # field 6, text
            *(0x19, 0x25, 0x02, 0x04),  # field 7, list of two i32
            *(0x1C, 0x16, 0xAC, 0x02, 0x00),  # field 8, a struct with an i64 of two bytes
            *(0x05, 0xC8, 0x01, 0x02),  # field 100, whose number is written out
            0x00,
        ]
    )
    fields, length = read_struct(content + b"more")
    assert fields == {1: -2, 2: True, 3: False, 4: 7, 5: None, 6: b"ab", 7: [1, 2], 8: {1: 150}, 100: 1}
    assert length == len(content)


def test_a_long_list_says_its_length_apart():
    fields, _ = read_struct(bytes([0x19, 0xF3, 20, *range(20), 0x00]))
    assert fields == {1: list(range(20))}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is cut"),
        (b"\x15", "is cut"),
        (b"\x19\xf3\xff\xff\xff\x07", "is cut"),
        (b"\x1b\x00", "has a field of type 11"),
        (b"\x1c" * 100, "has too many levels"),
        (b"\x19\x19" + b"\x19" * 100, "has too many levels"),
        (b"\x15" + b"\xff" * 11, "has a number of more than ten bytes"),
    ],
)
def test_damaged_structs(content: bytes, message: str):
    with pytest.raises(ThriftError, match=message):
        read_struct(content)
