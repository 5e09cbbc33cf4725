from featserve_load import bench


def test_a_section_replaces_only_itself():
    text = bench.replaced("", "Cold start", "cold, first")
    text = bench.replaced(text, "Served against in process", "served\n\n| a |")
    text = bench.replaced(text, "Cold start", "cold, again")
    assert text.count("## ") == 2
    assert text.index("served\n\n| a |") < text.index("cold, again")
    assert "cold, first" not in text
    assert bench.replaced(text, "Cold start", "cold, again") == text
