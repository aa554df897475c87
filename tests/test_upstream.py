"""What we rely on or work around inside other libraries: each test fails when upstream has changed it.

A failing ``test_mended_*`` is good news: the workaround that it names may go. A failing ``test_still_there_*`` names
what we reach into and no longer find. The upstream issue, or that none is known, stands where we work around it.
"""

from __future__ import annotations

import ast
import inspect
import json
import math
import queue
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
import torch
from monai.data import MetaTensor
from monai.networks.nets.efficientnet import EfficientNet
from monai.transforms import Rotate
from pydicom.charset import convert_encodings, decode_bytes, encode_string
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from pydicom.sr.coding import Code
from pydicom.valuerep import TEXT_VR_DELIMS
from pynetdicom import AE, _config, evt
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_ECHO
from pynetdicom.transport import ThreadedAssociationServer
from torch import nn
from torch.nn import functional as F

from models.efficientnet3d import PADDING_SIDE, block_strings
from pipeline.report.saliency import stand_in

ROOT = Path(__file__).parents[1]
VERIFICATION = "1.2.840.10008.1.1"
LONG_S, SOON_S = 30.0, 1.0
"""How long pynetdicom waits for a request, and within which it would have noticed that none will come."""


def private_names(path: Path) -> set[str]:
    """Return the private names that a module takes from other libraries or from objects that are not its own."""
    tree = ast.parse(path.read_text("utf-8"))
    nodes = list(ast.walk(tree))
    own = {
        node.attr for node in nodes if isinstance(node, ast.Attribute) and ast.unparse(node.value) in {"self", "cls"}
    }
    taken = {node.attr for node in nodes if isinstance(node, ast.Attribute)} - own - {"_exit"}
    taken |= {alias.name for node in nodes if isinstance(node, ast.ImportFrom) for alias in node.names}
    return {name for name in taken if name.startswith("_") and not name.endswith("_")}


def test_every_private_name_that_is_taken_from_a_library_is_tried_here():
    files = [path for package in ("dicom_node", "pipeline", "models") for path in (ROOT / package).rglob("*.py")]
    taken = set().union(*map(private_names, files))
    assert {"_config", "_serve_request"} < taken
    assert {name for name in taken if name not in Path(__file__).read_text("utf-8")} == set()


# --- pynetdicom -------------------------------------------------------------------------------------------------------


@pytest.fixture
def opened() -> list[evt.Event]:
    return []


@pytest.fixture
def server(opened) -> Iterator[ThreadedAssociationServer]:
    entity = AE("SERVER")
    entity.add_supported_context(VERIFICATION)
    entity.acse_timeout, entity.maximum_associations = LONG_S, 1
    found = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_CONN_OPEN, opened.append)])
    yield found
    for association in found.active_associations:
        association.dul.to_user_queue.put(None)
    found.shutdown()


def associate(server: ThreadedAssociationServer) -> Association:
    entity = AE("CLIENT")
    entity.add_requested_context(VERIFICATION)
    return entity.associate("127.0.0.1", server.server_address[1])


def probe(server: ThreadedAssociationServer, opened: list[evt.Event]) -> socket.socket:
    """Return a connection that asks for nothing, once the server has noticed it."""
    connection = socket.create_connection(server.server_address[:2])
    until_s = time.monotonic() + LONG_S
    while not opened and time.monotonic() < until_s:
        time.sleep(0.01)
    assert len(server.active_associations) == 1
    return connection


def test_mended_pynetdicom_keeps_an_answer_for_whoever_waits_for_it():
    """Works around it: dicom_node.net.association: _keep_answers."""
    association = Association(AE("CLIENT"), "requestor")
    answer = C_ECHO()
    answer.MessageIDBeingRespondedTo, answer.Status = 1, 0

    class Checkpoint(threading.Event):
        """The loop is suspended behind the checkpoint while a caller pauses it, sends and gets its answer."""

        def wait(self, timeout: float | None = None) -> bool:
            self.clear()
            association.dimse.msg_queue.put((1, answer))
            association._kill = True
            return True

    association._reactor_checkpoint = Checkpoint()
    association._run_reactor()
    assert association.dimse.msg_queue.empty()


def test_mended_pynetdicom_has_a_setting_for_nagles_algorithm(server, opened):
    """Works around it: dicom_node.net.association: send_at_once."""
    with probe(server, opened):
        connection = opened[0].assoc.dul.socket.socket
        assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 0


def test_still_there_the_verified_chain_of_a_connection():
    """`dicom_node.net.tls`; public from Python 3.13 on (its issue 62433)."""
    ours, theirs = ssl.MemoryBIO(), ssl.MemoryBIO()
    connection = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).wrap_bio(ours, theirs, server_side=True)
    inner: Any = connection._sslobj  # type: ignore[attr-defined]
    assert callable(inner.get_verified_chain)
    with socket.socket() as plain:
        client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).wrap_socket(plain, server_hostname="any")
        assert hasattr(client, "_sslobj")
        client.close()


def test_still_there_the_switch_that_keeps_pynetdicom_from_printing_messages(monkeypatch):
    """Reaches into it: dicom_node.net.association: _associate."""
    found = {}
    for level in ("standard", "none"):
        monkeypatch.setattr(_config, "LOG_HANDLER_LEVEL", level)
        found[level] = bool(Association(AE("CLIENT"), "requestor").get_handlers(evt.EVT_DIMSE_SENT))
    assert found == {"standard": True, "none": False}


def test_still_there_in_pynetdicom():
    """Reaches into it: dicom_node.net.association."""
    association = Association(AE("CLIENT"), "requestor")
    assert list(inspect.signature(association._serve_request).parameters) == ["msg", "context_id"]
    assert type(association.dimse.msg_queue) is queue.Queue
    assert association.dul.socket is None


# --- pydicom ----------------------------------------------------------------------------------------------------------


def test_mended_pydicom_ends_at_zeros():
    """Works around it: pipeline.dicom_file: FIRST_TAG."""
    seen = []
    read_dataset(BytesIO(bytes(8000)), True, True, stop_when=lambda tag, _vr, _length: seen.append(tag))
    assert seen == [0] * 1000


def test_mended_pydicom_names_an_early_end_of_a_file_as_such():
    """Works around it: pipeline.headers.instance: read_instance."""
    sequence = b"\x08\x00\x40\x11SQ\0\0\xff\xff\xff\xff" + b"\xfe\xff\x00\xe0\xff\xff\xff\xff"
    with pytest.raises(OSError, match="No tag to read") as caught:
        read_dataset(BytesIO(sequence), False, True).ReferencedImageSequence  # noqa: B018
    assert type(caught.value) is OSError
    assert caught.value.errno is None


def test_mended_pydicom_reads_and_writes_gb2312_with_escapes():
    """Works around it: pipeline.report.character_sets."""
    encodings = convert_encodings(["", "ISO 2022 IR 58"])
    stored = b"\x1b$)A\xcd\xf5"
    assert decode_bytes(stored, encodings, TEXT_VR_DELIMS) == "\x1b$)A王"
    assert encode_string("王", encodings) == b"\xcd\xf5"


def test_still_there_in_pydicom(tmp_path):
    """Reaches into it: pipeline.dicom_file."""
    empty = pydicom.FileDataset(tmp_path, {}, b"\0" * 128, pydicom.dataset.FileMetaDataset(), False, True)
    assert empty.original_encoding == (False, True)
    assert list(inspect.signature(pydicom.filereader.read_partial).parameters)[:2] == ["fileobj", "stop_when"]


# --- highdicom --------------------------------------------------------------------------------------------------------


def parametric_map(source: Dataset) -> hd.pm.ParametricMap:
    """Return a map of one voxel beside a source image."""
    return hd.pm.ParametricMap(
        [source], np.zeros((1, 1, 1), np.float32), hd.UID(), 1, hd.UID(), 1, "none", "none", "none", "none",
        contains_recognizable_visual_features=False,
        real_world_value_mappings=[
            hd.pm.RealWorldValueMapping("A", "B", Code("1", "UCUM", "no units"), (0.0, 1.0), slope=1.0, intercept=0.0)
        ],
        voi_lut_transformations=[hd.VOILUTTransformation(window_center=0.0, window_width=1.0)],
    )  # fmt: skip


@pytest.mark.parametrize("keyword", ["PatientID", "PatientSex", "AccessionNumber", "StudyTime"])
def test_mended_highdicom_takes_sources_that_lack_what_real_headers_lack(keyword):
    """Works around it: pipeline.report.saliency: stand_in."""
    source = stand_in(hd.UID(), hd.UID())
    parametric_map(source)
    delattr(source, keyword)
    with pytest.raises(AttributeError, match=keyword):
        parametric_map(source)


# --- SimpleITK --------------------------------------------------------------------------------------------------------


def test_mended_itk_inverts_direction_cosines_next_to_zero():
    """Works around it: pipeline.volume: image_of."""
    image = sitk.Image([4, 4, 4], sitk.sitkUInt8)
    image.SetDirection([1, 1e-310, 0, 0, 1, 0, 0, 0, 1])
    assert image.TransformPhysicalPointToIndex((1.0, 1.0, 1.0)) != (1, 1, 1)
    image.SetDirection([1, 0, 0, 0, 1, 0, 0, 0, 1])
    assert image.TransformPhysicalPointToIndex((1.0, 1.0, 1.0)) == (1, 1, 1)


# --- MONAI ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def monais() -> EfficientNet:
    """MONAI's network as it draws it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return EfficientNet(block_strings(1), spatial_dims=3, in_channels=1, num_classes=1, image_size=PADDING_SIDE)


def test_mended_monai_draws_depthwise_convolutions_by_the_fan_out_of_a_group(monais):
    """Works around it: models.efficientnet3d: EfficientNet3D._draw."""
    depthwise = [module for module in monais.modules() if isinstance(module, nn.Conv3d) and module.groups > 1]
    shares = [float(one.weight.detach().std()) / math.sqrt(2 / math.prod(one.kernel_size)) for one in depthwise]
    assert len(shares) == 16
    assert max(shares) < 0.25


def test_mended_monai_draws_the_last_layer_by_its_inputs(monais):
    """Works around it: models.inflate: _fresh; models.training.fit.job: _start."""
    assert float(monais._fc.weight.detach().abs().max()) > 0.9


def test_mended_monai_rotates_in_millimetres():
    """Works around it: models.training.fit.augment: _rotated."""
    image, rotate = torch.rand(1, 8, 8, 8), Rotate(angle=(0.3, 0.0, 0.0))
    flat = MetaTensor(image, affine=torch.diag(torch.tensor([1.0, 1.0, 3.0, 1.0])))
    turned: list[Any] = [rotate(flat), rotate(MetaTensor(image))]
    assert torch.equal(turned[0].as_tensor(), turned[1].as_tensor())


# --- PyTorch and NumPy ------------------------------------------------------------------------------------------------


def test_mended_torch_takes_the_fast_kernel_for_small_inputs_too():
    """Works around it: models.inference: _Convolution._apply_to."""
    volume = torch.randn(1, 8, 5, 9, 9).to(memory_format=torch.channels_last_3d)
    kernel = torch.randn(8, 8, 3, 3, 3)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        plain = F.conv3d(volume, kernel)
        fast = torch.mkldnn_convolution(volume, kernel, None, [0] * 3, [1] * 3, [1] * 3, 1)
    finally:
        torch.set_num_threads(threads)
    assert torch.allclose(plain, fast, atol=1e-4)
    assert fast.is_contiguous(memory_format=torch.channels_last_3d)
    assert not plain.is_contiguous(memory_format=torch.channels_last_3d)


def test_still_there_in_torch_and_numpy():
    """Reaches into it: models.inference: silu_into; models.brain_weights: _NUMPY_SCALARS."""
    values, out = torch.randn(8), torch.empty(8)
    torch.ops.aten.silu.out(values, out=out)
    assert torch.equal(out, F.silu(values))
    make: Any = np.float64(0).__reduce__()[0]
    assert f"{make.__module__}.{make.__name__}" == "numpy._core.multiarray.scalar"


# --- HD-BET and nnU-Net -----------------------------------------------------------------------------------------------

_SET_UP = """
import io, json, sys, warnings
warnings.simplefilter("ignore")
import torch
from models.brain_weights import EMBEDDED
out, ours = sys.stdout, io.StringIO()
sys.stdout = ours
from HD_BET import hd_bet_prediction
facts = {"keeps stdout": sys.stdout is ours}
loads, load = [], torch.load
torch.load = lambda *args, **kwargs: loads.append(kwargs.get("weights_only")) or load(*args, **kwargs)
torch.set_num_threads(3)
hd_bet_prediction.folder_with_parameter_files = str(EMBEDDED)
sys.stdout = io.StringIO()
predictor = hd_bet_prediction.get_hdbet_predictor(use_tta=False, device=torch.device("cpu"))
facts |= {"weights only": loads, "keeps threads": torch.get_num_threads() == 3, "prints": bool(sys.stdout.getvalue())}
facts |= {"shows progress": predictor.allow_tqdm}
predictor_class = type(predictor)
facts |= {"manual": list(predictor_class.manual_initialization.__code__.co_varnames[1:8])}
facts |= {"folder": list(predictor_class.initialize_from_trained_model_folder.__code__.co_varnames[1:4])}
facts |= {"predict": list(predictor_class.predict_single_npy_array.__code__.co_varnames[1:3])}
facts |= {"replaced": predictor_class is hd_bet_prediction.nnUNetPredictor}
print(json.dumps(facts), file=out)
"""


@pytest.fixture(scope="module")
def hd_bet() -> dict[str, object]:
    """What HD-BET does to a process when it is imported and set up; the embedded weights are plain and safe to load."""
    done = subprocess.run([sys.executable, "-c", _SET_UP], cwd=ROOT, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_mended_hd_bet_leaves_the_process_alone(hd_bet):
    """Works around it: models.brain_extractor: _silenced."""
    assert (hd_bet["keeps stdout"], hd_bet["keeps threads"], hd_bet["prints"]) == (False, False, True)
    assert hd_bet["shows progress"] is True


def test_mended_nnu_net_loads_tensors_without_unpickling(hd_bet):
    """Works around it: models.hd_bet_predictor: _TensorPredictor."""
    assert hd_bet["weights only"] == [False]


def test_still_there_in_hd_bet_and_nnu_net(hd_bet):
    """Reaches into it: models.hd_bet_predictor."""
    assert hd_bet["replaced"] is True
    assert hd_bet["folder"] == ["model_training_output_dir", "use_folds", "checkpoint_name"]
    assert hd_bet["predict"] == ["input_image", "image_properties"]
    assert hd_bet["manual"] == [
        "network",
        "plans_manager",
        "configuration_manager",
        "parameters",
        "dataset_json",
        "trainer_name",
        "inference_allowed_mirroring_axes",
    ]
