"""Checks alert rules, dashboard and the autoscaler's query: they parse as PromQL, and every metric and
label in them is in the table of metrics (docs/reference.md, which a test compares with the program)."""

import json
import re

import promql_parser

from places import DEPLOY, ROOT, VERBS, document, objects

MONITORING = DEPLOY / "monitoring"
# Labels that Prometheus or its scrape configuration give.
SCRAPED = {"job", "instance", "role"}
TYPES = promql_parser


def table():
    """Returns the labels of every metric of the table."""
    found = {}
    for line in (ROOT / "docs/reference.md").read_text().splitlines():
        if row := re.match(r"\| `(vintage_\w+)(?:\{([\w,]+)\})?` \| (\w+)", line):
            labels = set(row[2].split(",")) if row[2] else set()
            if row[3] == "histogram":
                found |= {f"{row[1]}_{part}": labels for part in ("sum", "count")}
                found[f"{row[1]}_bucket"] = labels | {"le"}
            else:
                found[row[1]] = labels
    assert len(found) > 8, found
    return found


METRICS = table()


def reasons():
    """Returns every reason for which a learner rejects a group."""
    source = (ROOT / "schemas/control/src/plan.rs").read_text()
    body = source.split("impl RejectReason")[1].split("\n}")[0]
    return set(re.findall(r'=> "(\w+)"', body))


def selectors(expression):
    """Returns the selectors of an expression: names with their matchers."""
    text = expression.replace("$__rate_interval", "5m")
    found, waiting = [], [promql_parser.parse(text)]
    grouped = set()
    while waiting:
        one = waiting.pop()
        if isinstance(one, TYPES.VectorSelector):
            found.append((one.name, [(each.name, each.op, each.value) for each in one.matchers.matchers]))
        elif isinstance(one, TYPES.MatrixSelector):
            waiting.append(one.vector_selector)
        elif isinstance(one, TYPES.BinaryExpr):
            waiting += [one.lhs, one.rhs]
        elif isinstance(one, TYPES.AggregateExpr):
            waiting.append(one.expr)
            if one.modifier is not None:
                grouped |= set(one.modifier.labels)
        elif isinstance(one, TYPES.Call):
            waiting += one.args
        elif isinstance(one, (TYPES.ParenExpr, TYPES.UnaryExpr, TYPES.SubqueryExpr)):
            waiting.append(one.expr)
        else:
            assert isinstance(one, (TYPES.NumberLiteral, TYPES.StringLiteral)), type(one)
    return found, grouped


def check(where, expression):
    """Checks an expression; returns the labels its series may have."""
    found, grouped = selectors(expression)
    assert found, f"{where}: measures nothing: {expression}"
    labels = set(SCRAPED)
    for name, matchers in found:
        if name != "up":
            assert name in METRICS, f"{where}: no metric {name} in docs/reference.md"
            labels |= METRICS[name]
        allowed = SCRAPED | METRICS.get(name, set())
        for label, operator, value in matchers:
            assert label in allowed, f"{where}: {name} has no label {label}"
            if label == "reason" and name == "vintage_groups_rejected_total":
                unknown = set(value.split("|")) - reasons()
                assert not unknown, f"{where}: nothing is rejected for {unknown}"
            if label == "role":
                assert value in VERBS, f"{where}: {value}"
    assert grouped <= labels, f"{where}: {grouped - labels} is no label of {expression}"
    return labels


def rules():
    (group,) = document(MONITORING / "alerts.yaml")["groups"]
    names = [rule["alert"] for rule in group["rules"]]
    assert len(names) == len(set(names)) >= 8, names
    for rule in group["rules"]:
        name = rule["alert"]
        assert rule.keys() <= {"alert", "expr", "for", "labels", "annotations"}, rule
        labels = check(name, rule["expr"])
        assert rule["labels"]["severity"] in ("critical", "warning", "info"), name
        assert rule["annotations"].keys() == {"summary", "description"}, name
        for text in rule["annotations"].values():
            for used in re.findall(r"\$labels\.(\w+)", text):
                assert used in labels, f"{name}: no label {used}"
    cases = document(MONITORING / "alerts.test.yaml")
    tried = json.dumps(cases)
    assert all(name in tried for name in names), "an alert without a case for promtool"
    page = (ROOT / "docs/deployment.md").read_text()
    assert re.findall(r"^\| `(Vintage\w+)` \|", page, re.M) == names, "another list in docs/deployment.md"
    return len(names)


def dashboard():
    board = json.loads((MONITORING / "dashboard.json").read_text())
    (source,) = board["templating"]["list"]
    assert source["type"] == "datasource" and source["query"] == "prometheus"
    ids, used, places = [], set(), []
    for panel in board["panels"]:
        ids.append(panel["id"])
        at = panel["gridPos"]
        places.append((at["y"], at["x"], at["w"], at["h"]))
        assert at["x"] + at["w"] <= 24, panel["title"]
        assert panel["title"] and panel["description"], panel
        for target in panel["targets"]:
            assert target["datasource"]["uid"] == "${" + source["name"] + "}", panel["title"]
            labels = check(panel["title"], target["expr"])
            used |= {name for name, _ in selectors(target["expr"])[0]}
            for label in re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]):
                assert label in labels, f"{panel['title']}: no label {label}"
    assert len(ids) == len(set(ids)), ids
    for row in {place[0] for place in places}:
        line = sorted(place for place in places if place[0] == row)
        assert sum(place[2] for place in line) == 24, f"a row is not filled: {line}"
    families = {re.sub("_(bucket|sum|count)$", "", name) for name in METRICS}
    shown = {re.sub("_(bucket|sum|count)$", "", name) for name in used} - {"up"}
    assert shown == families, f"metrics that no panel shows: {families - shown}"
    return len(ids)


def scraped_roles():
    """The label `role` of the two scrape configurations is the component."""
    (job,) = document(DEPLOY / "kubernetes/prometheus/scrape.yaml")["scrape_configs"]
    assert job["job_name"] == "vintage"
    (compose,) = document(MONITORING / "prometheus.yaml")["scrape_configs"]
    assert compose["job_name"] == "vintage"
    (relabel,) = (each for each in compose["relabel_configs"] if each["target_label"] == "role")
    for each in compose["dns_sd_configs"]:
        (name,) = each["names"]
        assert re.fullmatch(relabel["regex"], name)[1] in VERBS, name


def autoscaler():
    (scaled,) = objects("ScaledObject").values()
    (trigger,) = scaled["spec"]["triggers"]
    check("ScaledObject", trigger["metadata"]["query"])


def mistakes_are_noticed():
    for wrong in ("sum(vintage_groups_trained", "vintage_groups_traind_total > 0",
                  'vintage_groups_produced_total{learner="lead"} > 0',
                  'vintage_groups_rejected_total{reason="stale"} > 0',
                  "sum by (lerner) (vintage_groups_trained_total)"):
        try:
            check("a mistake", wrong)
        except (AssertionError, ValueError):
            continue
        raise AssertionError(f"goes unnoticed: {wrong}")


if __name__ == "__main__":
    mistakes_are_noticed()
    scraped_roles()
    autoscaler()
    print(rules(), "alerts and", dashboard(), "panels use metrics of the table")
