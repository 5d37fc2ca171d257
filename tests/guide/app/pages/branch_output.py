"""How much does each branch add to the stream?"""

from analysis.branch_output import BRANCHES, BranchOutputSettings, branch_output, largest_output
from analysis.figures.branch_output import output_by_block
from app.components import View, answer, built, question, results_of, show

DEFINITION = (
    "Magnitude of what the branch adds to the stream, after its gate: root mean square over the "
    "channels of a token, mean over tokens, images and labels."
)
FORMULA = r"$M[x] = \sqrt{\frac{1}{n}\sum_{i=1}^{n} x_i^2}$ for a token $x$ of $n$ channels."


def page(view: View) -> None:
    question("How much does each branch add to the stream?")
    results = results_of(branch_output, view, BranchOutputSettings())
    if results is None:
        return  # a card with progress stands in the figure's place
    table = results.table
    timesteps = sorted(table["timestep"].unique().tolist(), reverse=True)
    t = view.choice("t", "Timestep (999 = noise, 0 = image)", timesteps, 500, kind="slider")
    branch = view.choice("branch", "Branch", list(BRANCHES), words=BRANCHES.__getitem__)
    rows = table[(table["timestep"] == t) & (table["branch"] == branch)]
    answer(f"{view.weights_name}: {largest_output(rows)}")
    figure = built(output_by_block, rows, f"What {BRANCHES[branch]} adds, t = {t}")
    show(figure, rows, "output", results, definition=DEFINITION, formula=FORMULA)
