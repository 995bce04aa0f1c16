import pytest

from hardmil.config.known_encoders import KNOWN, is_encoder_file, known_encoder, short_name, split_location


@pytest.mark.parametrize(
    ("encode", "name"),
    [
        ("uni", "uni"),
        ("uni@weights/uni", "uni"),
        ("hf-hub:MahmoodLab/UNI", "uni"),
        ("hf-hub:mahmoodlab/uni@77ffbca", "uni"),
        ("virchow2", "virchow2"),
        ("hf-hub:bioptimus/H-optimus-0", "h-optimus-0"),
    ],
)
def test_an_encoder_is_known_by_our_name_and_by_its_repository(encode: str, name: str):
    known = known_encoder(encode)
    assert known is not None
    assert known.name == name


@pytest.mark.parametrize(
    "encode", ["timm:resnet50", "hf-hub:someone/uni", "local-dir:uni", "m:f", "uni.onnx"]
)
def test_others_are_not(encode: str):
    assert known_encoder(encode) is None


def test_what_follows_the_at_sign():
    assert split_location("uni@/data/uni") == ("uni", "/data/uni")
    assert split_location("timm:resnet50.a1_in1k@w.safetensors") == ("timm:resnet50.a1_in1k", "w.safetensors")
    assert split_location("hf-hub:a/b@main") == ("hf-hub:a/b@main", None)
    assert split_location("uni") == ("uni", None)


@pytest.mark.parametrize(
    ("encode", "short"),
    [
        ("pixels", "pixels"),
        ("own.module:f", "own.module.f"),
        ("timm:resnet50@x/w.safetensors", "timm.resnet50"),
        ("hf-hub:MahmoodLab/UNI", "hf-hub.MahmoodLab.UNI"),
        ("local-dir:/data/nets/uni/", "uni"),
        ("models/a b.onnx", "a b.onnx"),
        ("C:\\nets\\x.pt2", "x.pt2"),
        ("uni@/data/uni", "uni"),
    ],
)
def test_the_short_name_is_part_of_a_folder_name(encode: str, short: str):
    assert short_name(encode) == short


def test_files_by_suffix():
    assert is_encoder_file("a/b.ONNX")
    assert is_encoder_file("b.pt2")
    assert not is_encoder_file("timm:resnet50@w.safetensors")


def test_virchow2_is_its_class_token_and_the_mean_of_its_patches():
    virchow2 = KNOWN["virchow2"]
    assert (virchow2.dim, virchow2.class_and_mean, virchow2.n_registers) == (2560, True, 4)
    assert {one.name: one.dim for one in KNOWN.values() if not one.class_and_mean} == {
        **{"uni": 1024, "uni2-h": 1536, "h-optimus-0": 1536, "h-optimus-1": 1536, "prov-gigapath": 1536}
    }
