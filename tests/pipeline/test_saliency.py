"""Saliency: maps that depend on the weights, lie where they belong, and are written as valid objects."""

from __future__ import annotations

import re

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import EnhancedMRImageStorage, ParametricMapStorage
from torch import nn

from models.contrast import Contrast
from models.efficientnet3d import demonstration_network, efficientnet3d_b0
from models.saliency import STRIDE, ClassActivation, feature_layer, grad_cam
from pipeline.activation import placed
from pipeline.report import tri_planar, write_results, write_saliency
from pipeline.report.pen import NOTICE_FILL
from pipeline.report.result_files import OBJECT_FILES, SALIENCY_FILES
from pipeline.report.saliency import build_saliency, draw_saliency
from pipeline.report.views import draw_plane
from tests.support.reports import STUDY_UID, check_object, drawn_run, made_volume, run_of, write_inputs, written
from tests.support.services import Orthanc

MOST_ALIKE = 0.5
"""Bound of the sanity check: a map whose correlation with that of random weights is greater says nothing of them."""
# In the standard since the parametric maps themselves, not in the tool's list of terms.
QUANTITY = re.compile(r"(ImageType|FrameType).*Unrecognized defined term = <QUANTITY>")


@pytest.fixture(scope="module")
def network() -> nn.Module:
    return demonstration_network(2, seed=5).requires_grad_(requires_grad=False)


@pytest.fixture(scope="module")
def batch() -> torch.Tensor:
    z, y, x = torch.meshgrid(*[torch.linspace(-1, 1, side) for side in (128, 128, 128)], indexing="ij")
    radius = (z**2 + y**2 + x**2).sqrt()
    noise = torch.randn(radius.shape, generator=torch.Generator().manual_seed(1))
    return ((noise + torch.sin(9 * x) + torch.cos(7 * y * z)) * (radius < 0.8))[None, None]


# --- what the map says ------------------------------------------------------------------------------------------------


def test_the_map_is_the_same_each_time_and_leaves_the_network_as_it_was(network, batch):
    with torch.inference_mode():
        before = float(network(batch))
    activation = grad_cam(network, batch)
    assert (activation.values_zyx.shape, activation.values_zyx.dtype) == ((4, 4, 4), np.float32)
    assert activation.values_zyx.min() < 0 < activation.values_zyx.max()
    assert np.array_equal(activation.values_zyx, grad_cam(network, batch).values_zyx)
    with torch.inference_mode():
        assert float(network(batch)) == before


def test_where_the_last_features_are_used_the_map_adds_up_to_the_score(batch):
    """Between these features and the logit there are a mean and a sum only, so that nothing may be missing."""
    network = efficientnet3d_b0(1, seed=5).eval().requires_grad_(requires_grad=False)
    small = batch[..., 32:96, 64:128, 64:128]
    activation = grad_cam(network, small)
    with torch.inference_mode():
        logit = float(network(small))
    bias = float(network.get_parameter("_fc.bias"))
    assert activation.values_zyx.sum() == pytest.approx(logit - bias, abs=1e-4)


def test_random_weights_change_the_map(network, batch):
    """Adebayo et al., "Sanity Checks for Saliency Maps", 2018: a map that survives them explains the image alone."""
    values = grad_cam(network, batch).values_zyx.ravel()
    other = demonstration_network(2, seed=6).requires_grad_(requires_grad=False)
    alike = float(np.corrcoef(values, grad_cam(other, batch).values_zyx.ravel())[0, 1])
    print(f"\ncorrelation with the map of other random weights: {alike:.2f}")
    assert abs(alike) < MOST_ALIKE


# --- where the map lies -----------------------------------------------------------------------------------------------


def averaging(stride: int) -> nn.Module:
    """Return the network with weights that only average: a feature then answers most to what lies in its middle."""
    network = efficientnet3d_b0(stride, seed=5).eval().requires_grad_(requires_grad=False)
    for module in network.modules():
        if isinstance(module, nn.Conv3d):
            nn.init.constant_(module.weight, 1 / module.weight[0].numel())
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return network


@pytest.mark.parametrize("first_block_stride", [1, 2])
def test_features_look_around_the_voxels_that_they_are_said_to(first_block_stride):
    network = averaging(first_block_stride)
    following, stride, first = feature_layer(network)
    assert stride == STRIDE
    answers: list[torch.Tensor] = []
    following.register_forward_pre_hook(lambda _, inputs: answers.append(inputs[0].abs().sum(dim=(0, 1, 2, 4))))
    for voxel in (first + 6 * stride, first + 6.5 * stride):
        spot = torch.zeros(1, 1, 64, 448, 64)
        spot[..., round(voxel) - 3 : round(voxel) + 4, 32] = 1e6
        with torch.inference_mode():
            network(spot)
    on_a_feature, between = (answer.double().numpy() / float(answer.max()) for answer in answers)
    assert on_a_feature.argmax() == 6
    assert on_a_feature[2:6] == pytest.approx(on_a_feature[7:11][::-1], rel=0.02, abs=1e-3)
    assert between[3:7] == pytest.approx(between[7:11][::-1], rel=0.02, abs=1e-3)


GRID = sitk.Image((256, 256, 128), sitk.sitkUInt8)
GRID.SetSpacing((1.0, 1.0, 1.5))
GRID.SetDirection((-1, 0, 0, 0, -1, 0, 0, 0, 1))
GRID.SetOrigin((127.5, 127.5, -95.25))
# The first voxel of canonical axes lies on the patient's right, at the back and below; LPS grows to left and back.
MARKED = {(0, 0, 0): (-1, 1, -1), (0, 0, 6): (1, 1, -1), (0, 6, 0): (-1, -1, -1), (2, 6, 6): (1, -1, 1)}


def marked(index_zyx: tuple[int, int, int]) -> sitk.Image:
    values = np.full((4, 8, 8), -0.1, np.float32)
    values[index_zyx] = 2.5
    # On canonical axes the columns run from the patient's left (LPS is positive there) to the right.
    return placed(ClassActivation(values, 31.0, 32), GRID)


def place_of_the_greatest(dataset: Dataset) -> np.ndarray:
    """Return where in the patient the greatest value of a parametric map lies, by its own attributes alone."""
    frame, row, column = np.unravel_index(int(dataset.pixel_array.argmax()), dataset.pixel_array.shape)
    shared, groups = dataset.SharedFunctionalGroupsSequence[0], dataset.PerFrameFunctionalGroupsSequence
    orientation = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, float)
    row_mm, column_mm = shared.PixelMeasuresSequence[0].PixelSpacing
    position = np.array(groups[frame].PlanePositionSequence[0].ImagePositionPatient, float)
    return position + orientation[:3] * column * column_mm + orientation[3:] * row * row_mm


@pytest.mark.parametrize("index_zyx", MARKED, ids=str)
def test_what_is_left_in_the_grid_is_left_in_the_patient(inputs, tmp_path, index_zyx):
    activation = marked(index_zyx)
    wanted = GRID.TransformContinuousIndexToPhysicalPoint([31.0 + 32 * each for each in index_zyx[::-1]])
    saliency = dcmread(written(build_saliency(run_of(inputs), Contrast.T1W, activation), tmp_path))
    assert place_of_the_greatest(saliency) == pytest.approx(wanted, abs=1e-3)
    plane = tri_planar(*made_volume(), activation)[0]
    assert plane.heat is not None
    assert plane.heat.shape == plane.grey.shape


def test_colours_are_drawn_where_the_map_is_great(inputs):
    volume, mask = made_volume()
    left_front = sitk.Image((8, 8, 2), sitk.sitkFloat32)
    left_front.SetSpacing((32.0, 32.0, 96.0))
    middle = volume.TransformContinuousIndexToPhysicalPoint([(side - 1) / 2 for side in volume.GetSize()])
    left_front.SetOrigin([middle[0] - 112, middle[1] - 112, middle[2] - 48])
    left_front[5:8, 0:3, :] = 1.0
    pixels = np.asarray(draw_plane(tri_planar(volume, mask, left_front)[0], 200)).astype(int)
    row, column = np.argwhere(pixels[..., 0] - pixels[..., 2] > 60).mean(axis=0)
    assert row < 90, "the face is on top"
    assert column > 110, "the patient's left is on the right"


# --- objects ----------------------------------------------------------------------------------------------------------


def test_the_map_is_a_parametric_map_of_its_series(inputs, tmp_path):
    path = written(build_saliency(run_of(inputs), Contrast.FLAIR, marked((1, 2, 3))), tmp_path)
    check_object(path, QUANTITY)
    assert path.stat().st_size < 20_000
    found = dcmread(path)
    assert (found.SOPClassUID, found.ContentQualification, found.Modality) == (ParametricMapStorage, "RESEARCH", "OT")
    mapping = found.SharedFunctionalGroupsSequence[0].RealWorldValueMappingSequence[0]
    quantity, *algorithm = mapping.QuantityDefinitionSequence
    assert quantity.ConceptCodeSequence[0].CodeValue == "130403"
    assert [item.TextValue for item in algorithm] == ["WAE-net FLAIR network", "0.1.0", f"weights sha256={'3c' * 32}"]
    assert found.FrameOfReferenceUID == f"{STUDY_UID}.99"
    (series,) = found.ReferencedSeriesSequence
    assert series.SeriesInstanceUID == inputs[Contrast.FLAIR].series_uid
    referred = [item.ReferencedSOPInstanceUID for item in found.SourceImageSequence]
    assert referred == [f"{STUDY_UID}.3.{number}" for number in (1, 2, 3)]
    assert np.array_equal(np.sort(found.pixel_array.ravel())[-2:], np.array([-0.1, 2.5], np.float32))


def test_maps_have_names_of_their_own_and_equal_bytes(inputs, tmp_path):
    maps = {role: build_saliency(run_of(inputs), role, marked((1, 2, 3))) for role in Contrast}
    for keyword in ("SOPInstanceUID", "SeriesInstanceUID", "SeriesNumber", "SeriesDescription"):
        assert len({getattr(each, keyword) for each in maps.values()}) == 3, keyword
    again = build_saliency(run_of(inputs), Contrast.T1W, marked((1, 2, 3)))
    assert written(again, tmp_path, "again.dcm").read_bytes() == written(maps[Contrast.T1W], tmp_path).read_bytes()


def test_sources_of_any_kind_are_taken(tmp_path):
    """Enhanced images, no frame of reference, no character set: as for every other result."""

    def change(header: Dataset) -> None:
        header.SOPClassUID = EnhancedMRImageStorage
        del header.FrameOfReferenceUID, header.SpecificCharacterSet, header.PatientSex, header.AccessionNumber

    inputs = write_inputs(tmp_path, change, images=1)
    saliency = build_saliency(run_of(inputs), Contrast.T2W, marked((1, 2, 3)))
    assert "SpecificCharacterSet" not in saliency
    assert saliency.FrameOfReferenceUID.startswith("2.25.")
    assert saliency.SourceImageSequence[0].ReferencedSOPClassUID == EnhancedMRImageStorage
    check_object(written(saliency, tmp_path), QUANTITY)


def test_all_files_are_written_and_the_page_is_valid(inputs, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    activations = {role: marked((1, 2, 3)) for role in Contrast}
    views = {role: tri_planar(*made_volume(), activations[role]) for role in Contrast}
    write_saliency(run_of(inputs), activations, views, out)
    objects = [name for names in SALIENCY_FILES.values() for name in names]
    assert sorted(path.name for path in out.iterdir()) == sorted([*objects, "saliency.png"])
    for name in objects:
        check_object(out / name, QUANTITY)
    page = dcmread(out / "saliency.dcm")
    drawn = np.asarray(draw_saliency(drawn_run(), views, (32.0, 32.0, 48.0)))
    assert np.array_equal(page.pixel_array, drawn)
    assert (page.pixel_array[:92] == NOTICE_FILL).all(axis=2).mean() > 0.5, "the banner of every result"
    assert len({dcmread(out / name).SeriesNumber for name in objects}) == len(objects)


def test_a_coarse_map_is_drawn_and_not_written(inputs, tmp_path):
    """A voxel of a third of a brain would be taken for a place."""
    coarse = sitk.Image((4, 4, 2), sitk.sitkFloat32) + 1
    coarse.SetSpacing((64.0, 64.0, 96.0))
    views = {role: tri_planar(*made_volume(), coarse) for role in Contrast}
    write_saliency(run_of(inputs), dict.fromkeys(Contrast, coarse), views, tmp_path)
    assert sorted(path.name for path in tmp_path.glob("saliency*")) == ["saliency.dcm", "saliency.png"]


def test_nothing_is_coloured_outside_of_the_brain():
    volume, mask = made_volume()
    everywhere = sitk.Image((8, 8, 4), sitk.sitkFloat32) + 1
    everywhere.SetSpacing((32.0, 32.0, 48.0))
    everywhere.SetOrigin((-112.0, -112.0, -96.0))
    for plane in tri_planar(volume, mask, everywhere):
        assert plane.heat is not None
        assert (plane.heat[plane.mask == 0] == 0).all()
        assert (plane.heat[plane.mask == 1] != 0).any()


def test_a_pacs_takes_page_and_maps(inputs, tmp_path):
    """pynetdicom's default contexts lack Parametric Map: the node proposes what it sends."""
    from dicom_node.config import parse
    from dicom_node.net import scu

    activations = {role: marked((1, 2, 3)) for role in Contrast}
    views = {role: tri_planar(*made_volume(), activations[role]) for role in Contrast}
    write_saliency(run_of(inputs), activations, views, tmp_path)
    with Orthanc.running(tmp_path, node_port=104) as pacs:
        peer = f'name = "pacs"\nae_title = "PACS"\nhost = "127.0.0.1"\nport = {pacs.port}\n'
        config = parse(f'[[peers]]\n{peer}roles = ["source", "destination"]\n')
        for names in SALIENCY_FILES.values():
            taken = scu.send_first_accepted(config, config.peer("pacs"), [tmp_path / name for name in names])
            assert taken.refused == ()
        stored = [dcmread(pacs.fetch(each, tmp_path / "stored.dcm")) for each in pacs.instances(STUDY_UID, "OT")]
    sent = {dcmread(tmp_path / name).SOPInstanceUID for names in SALIENCY_FILES.values() for name in names}
    assert {each.SOPInstanceUID for each in stored} == sent
    assert [each.SOPClassUID for each in stored].count(ParametricMapStorage) == 3


def test_headers_are_read_once_for_all_results_of_a_run(inputs, tmp_path):
    """Results, page and maps need nothing of the input files once their run has been read."""
    out = tmp_path / "out"
    out.mkdir()
    run = run_of(inputs)
    for series in inputs.values():
        for path in series.files:
            path.unlink()
    activations = {role: marked((1, 2, 3)) for role in Contrast}
    views = {role: tri_planar(*made_volume(), activations[role]) for role in Contrast}
    write_results(run, views, out)
    write_saliency(run, activations, views, out)
    assert all(
        (out / name).exists() for files in (OBJECT_FILES, SALIENCY_FILES) for names in files.values() for name in names
    )
