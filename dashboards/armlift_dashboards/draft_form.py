"""The form that drafts an experiment: its file is shown, checked and given to download, never written."""

import streamlit as st

from armlift.experiment import Experiment
from armlift.lab import Lab
from armlift.store.database import reading
from armlift_dashboards import parts
from armlift_dashboards.drafts import Draft, check, started_names, text_of
from armlift_dashboards.plans import Answer, Asked
from armlift_dashboards.source import Source


def show(source: Source, answer: Answer, asked: Asked, like: Experiment) -> None:
    """Show the form, filled in from a plan and from the experiment that it was made of."""
    st.subheader("Draft an experiment", anchor=False)
    st.write("Filled in from the plan above. Nothing is written: download the file, and start it yourself.")
    with st.container(border=True):
        _form(source, answer, asked, like)


@st.fragment
def _form(source: Source, answer: Answer, asked: Asked, like: Experiment) -> None:
    lab = source.lab
    draft = _draft(lab, answer, asked, like)
    if not draft.name:
        st.info("Give the experiment a name to see its file.", icon=":material/edit:")
        return
    with reading(source.known) as connection:
        started = started_names(connection)
    checked = check(lab, draft, started)
    text = text_of(draft)
    st.markdown(f"**experiments/{draft.name}.yaml**")
    st.code(text, language="yaml", wrap_lines=True)
    for doubt in checked.doubts:
        parts.stale(doubt)
    if checked.complaint is not None:
        parts.failed(checked.complaint)
        return
    st.success("`armlift experiment check` finds nothing wrong with it.", icon=":material/check:")
    st.download_button(
        f"Download {draft.name}.yaml",
        text,
        file_name=f"{draft.name}.yaml",
        mime="application/yaml",
        on_click="ignore",
        icon=":material/download:",
        key="draft-download",
    )
    st.caption("Put it into the lab's folder `experiments/`, then:")
    st.code(f"armlift experiment start {draft.name}", language="shell")


def _draft(lab: Lab, answer: Answer, asked: Asked, like: Experiment) -> Draft:
    left, right = st.columns(2)
    name = left.text_input(
        "Name", key="draft-name", max_chars=63, placeholder="lower-case letters, digits, _ or -"
    )
    description = right.text_input("What it asks", key="draft-description", max_chars=500)
    arms = _arms(lab, like)
    first, second, third = st.columns(3)
    control = first.selectbox(
        "Control", list(arms), key="draft-control", index=_place(list(arms), like.control)
    )
    layer = second.text_input(
        "Layer", key="draft-layer", max_chars=63, placeholder="its own, named like the experiment",
        help="Experiments of one layer never share units.",
    )  # fmt: skip
    begin, end = third.columns(2)
    low = begin.number_input("Slice of the layer from (%)", 0, 99, 0, key="draft-slice-from")
    high = end.number_input("to (%)", 1, 100, 100, key="draft-slice-to")
    first, second = st.columns(2)
    traffic = first.number_input(
        "Traffic of the draft (%)",
        0.1,
        100.0,
        _traffic(answer),
        1.0,
        format="%g",
        key=f"draft-traffic-{answer.share}",
    )
    audience = second.text_input(
        "Audience", key="draft-audience", placeholder="everybody", help="Such as: country == 'DE'"
    )
    roles = _metrics(lab, answer, like)
    first, second, third = st.columns(3)
    smallest = first.number_input(
        "Smallest lift worth shipping (%)", 0.01, 900.0, round(100 * asked.lift, 10), 0.5, format="%g",
        key=f"draft-lift-{asked.lift}",
    )  # fmt: skip
    planned = second.number_input(
        "Planned units", 2, None, answer.units, 100, key=f"draft-units-{answer.units}",
        help="Of all arms, at which it is judged; from the plan.",
    )  # fmt: skip
    alpha = third.number_input(
        "Alpha", 0.0001, 0.499, asked.alpha, 0.01, format="%g", key=f"draft-alpha-{asked.alpha}"
    )
    return Draft(
        name=name.strip(),
        description=description.strip(),
        arms=arms,
        control=control or "",
        **roles,
        layer=layer.strip(),
        slice=(low / 100, high / 100),
        traffic=round(traffic / 100, 12),
        audience=audience.strip(),
        alpha=alpha,
        planned_units=planned,
        smallest_lift=round(smallest / 100, 12),
    )


def _arms(lab: Lab, like: Experiment) -> dict[str, float]:
    """Ask for the arms, and for each one's weight."""
    known = lab.arm_names()
    chosen = st.multiselect("Arms", known, [arm for arm in like.arms if arm in known], key="draft-arms")
    columns = st.columns(max(1, min(4, len(chosen))))
    return {
        arm: columns[place % len(columns)].number_input(
            f"Weight of {arm}", 0.0, 1e6, float(like.arms.get(arm, 1.0)), 1.0, format="%g",
            key=f"draft-weight-{arm}",
        )
        for place, arm in enumerate(chosen)
    }  # fmt: skip


def _metrics(lab: Lab, answer: Answer, like: Experiment) -> dict[str, list[str]]:
    """Ask for the metrics by role."""
    known = list(lab.metrics)
    guardrails = [one for one in like.metrics.guardrails if one in known and one != answer.metric]
    given = {
        "primary": ("Primary metrics", [answer.metric] if answer.metric in known else []),
        "secondary": ("Secondary metrics", []),
        "guardrails": ("Guardrails", guardrails),
    }
    columns = st.columns(3)
    return {
        role: column.multiselect(label, known, default, key=f"draft-{role}-{answer.metric}")
        for column, (role, (label, default)) in zip(columns, given.items(), strict=True)
    }


def _traffic(answer: Answer) -> float:
    return min(100.0, max(0.1, round(100 * answer.share, 10)))


def _place(arms: list[str], control: str) -> int | None:
    return (arms.index(control) if control in arms else 0) if arms else None
