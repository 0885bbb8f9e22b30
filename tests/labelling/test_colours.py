from openferret.labelling.colours import colour_of


def test_hundreds_of_classes_have_colours_that_carry_white_text():
    colours = [colour_of(number) for number in range(300)]
    assert len(set(colours)) > 290
    for colour in colours:
        red, green, blue = (int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5))
        luminance = 0.2126 * red**2.2 + 0.7152 * green**2.2 + 0.0722 * blue**2.2
        assert 1.05 / (luminance + 0.05) > 4
