"""What a report says of faces: how often they were found, the worst clips first."""

from toy_report import report

from fercompress.report import provenance
from fercompress.report.cells import markdown


def test_the_worst_clips_come_first_and_those_with_a_face_in_every_frame_are_counted():
    rates = {"c": 1.0, "b": 0.25, "a": 0.75, "d": 1.0}
    table = provenance.faces(report({"dense": {}}, face_rates=rates))
    assert table is not None
    assert [[cell.text for cell in row] for row in table.rows] == [["all 4 clips that are used", "75.0%"], ["b", "25.0%"], ["a", "75.0%"]]
    assert "every frame of 2 of them" in markdown(table)


def test_drawn_clips_have_no_table_of_faces():
    assert provenance.faces(report({"dense": {}})) is None
