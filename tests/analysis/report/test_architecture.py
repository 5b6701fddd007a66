import pytest

from cifar_flax.analysis.report.architecture import draw_network, side_lanes, split_network
from cifar_flax.analysis.report.graph import Node


@pytest.fixture
def branched():
    """A stem, two branches of one layer each, their sum, and the logits."""
    return [
        Node("image", "", (8, 8, 3), 0, ()),
        Node("stem", "Conv", (8, 8, 4), 108, (0,)),
        Node("left", "Conv", (8, 8, 4), 144, (1,)),
        Node("right", "Conv", (8, 8, 4), 16, (1,)),
        Node("sum", "", (8, 8, 4), 0, (2, 3)),
        Node("logits", "Dense", (10,), 2570, (4,)),
    ]


def test_arrows_past_other_nodes_have_lanes_of_their_own(branched):
    assert side_lanes(branched) == {(1, 3): 0, (2, 4): 1}
    assert side_lanes([*branched, Node("late", "", (10,), 0, (4, 5)), Node("later", "", (10,), 0, (4, 6))]) == {
        (1, 3): 0,
        (2, 4): 1,
        (4, 6): 0,
        (4, 7): 1,
    }


def test_the_drawing_has_shapes_parameters_and_arrows_from_what_is_read(branched):
    [figure] = draw_network(branched)
    axes = figure.axes[0]
    texts = {text.get_text() for text in axes.texts}
    assert {"image", "8 × 8 × 3", "stem  (Conv)", "8 × 8 × 3 → 8 × 8 × 4", "108 parameters", "sum"} <= texts  # noqa: RUF001
    boxes = [patch.get_bbox() for patch in axes.patches if hasattr(patch, "get_boxstyle")]
    heads = sorted(arrow.xy for arrow in axes.texts if getattr(arrow, "arrow_patch", None))
    rows = [[head for head in heads if box.y0 <= head[1] <= box.y1] for box in boxes]
    assert [len(row) for row in rows] == [0, 1, 1, 1, 2, 1]
    assert rows[3][0][0] == boxes[3].x0  # from the side: it does not read the node above it


def test_a_long_network_is_split_where_a_single_arrow_leads_on(branched):
    chain = [Node(f"layer{k}", "Dense", (4,), 20, (k - 1,) if k else ()) for k in range(30)]
    assert [len(part) for part in split_network(chain)] == [10, 10, 10]
    assert len(draw_network(chain)) == 3
    residual = [
        *chain[:14],
        Node("sum", "", (4,), 0, (4, 13)),
        *(Node(f"l{k}", "Dense", (4,), 20, (k - 1,)) for k in range(15, 24)),
    ]
    parts = split_network(residual)
    assert not any(4 < part.start <= 14 for part in parts)
    assert [place for part in parts for place in part] == list(range(24))
