from cifar_flax.analysis.compare.tables import Table


def test_columns_that_do_not_fit_come_below_behind_the_names():
    columns = ("#", "run", *(f"figure {i}" for i in range(12)))
    rows = [(str(i), f"run{i}", *(f"{i}.{j:04}" for j in range(12))) for i in (1, 2)]
    title, *lines = Table("scores", columns, rows, "one note " * 20, words=("run",)).text().splitlines()
    assert title == "scores"
    assert max(map(len, lines)) <= 80
    headers = [line for line in lines if "figure" in line]
    assert len(headers) == 2
    assert all(line.split()[:2] == ["#", "run"] for line in headers)
    assert [word for line in headers for word in line.split()[2:]] == " ".join(columns[2:]).split()
    shown = [line.split() for line in lines if line.split()[1:2] == ["run2"]]
    assert [cell for line in shown for cell in line[2:]] == list(rows[1][2:])


def test_a_table_of_words_is_not_divided():
    columns = ("field", "1", "2")
    text = Table("differs", columns, [("optim.learning_rate", "a" * 50, "b" * 50)], words=columns).text()
    assert len(text.splitlines()) == 3
