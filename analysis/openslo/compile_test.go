package openslo

import (
	"os"
	"strings"
	"testing"
	"time"

	"serin.dev/serin/analysis/slo"
	"serin.dev/serin/analysis/verdict"
)

func shop(t testing.TB) string {
	t.Helper()
	data, err := os.ReadFile("testdata/shop.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func compile(t testing.TB, text string) ([]slo.Objective, []Note, error) {
	t.Helper()
	f, err := Parse("f.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return Compile(f)
}

func TestCompile(t *testing.T) {
	all, notes, err := compile(t, shop(t))
	if err != nil || len(notes) != 0 || len(all) != 2 {
		t.Fatalf("%v, %v, %d objectives", err, notes, len(all))
	}
	o := all[0]
	if o.Name != "checkout-errors" || o.Service != "checkout" || o.App != "shop-web" || o.Unit != slo.UnitSession || o.Target != 0.99 || o.GroupBy != "release" ||
		o.Bad == nil || o.Bad.Fails != "error_free" || o.Total.Kind != "" || strings.Join(o.Labels["team"], ",") != "payments,web" || o.Labels["tier"][0] != "1" {
		t.Errorf("%+v", o)
	}
	if len(o.Policy) != 2 || o.Policy[0] != (slo.Rule{Remaining: 0, Action: verdict.Freeze}) || o.Policy[1] != (slo.Rule{Remaining: 0.25, Action: verdict.Approval}) {
		t.Errorf("%+v", o.Policy)
	}
	if a := o.Alerts; len(a) != 3 || a[0].Name != "burns-fast" || a[0].Short != 5*time.Minute || a[0].After != 2*time.Minute || !a[0].WhenResolved || a[0].Targets[0] != "deploy" ||
		a[1].Short != 6*time.Hour || a[1].Severity != "ticket" || a[2].Form != slo.FormTrickle || a[2].Targets[0] != "deploy" {
		t.Errorf("%+v", a)
	}
	o = all[1]
	if o.Threshold == nil || *o.Threshold != (slo.Threshold{Op: "lte", Limit: 2500}) || o.Window.Zone != "Europe/Berlin" || o.Window.Rolling || o.Total.Names[0] != "LCP" || len(o.Total.Where["page"]) != 2 {
		t.Errorf("%+v", o)
	}
	for _, a := range o.Alerts[:2] {
		if a.Form != slo.FormExcess || slo.CanFire(a.Form, a.Threshold, o.Target) == slo.Infeasible {
			t.Errorf("a default alert of a loose target: %+v", a)
		}
	}
}

// TestRefusals changes one thing of the shop's file, and has one fault or note of
// it.
func TestRefusals(t *testing.T) {
	for _, c := range []struct{ old, new, want string }{
		// What can be parsed and not evaluated.
		{"    bad:\n      metricSource: {metricSourceRef: serin, spec: {app: shop-web, unit: session, fails: error_free}}\n    total:\n      metricSource:", "    rawType: success\n    raw:\n      metricSource:", "spec.ratioMetric.raw: set: want total with good or bad"},
		{"spec: {type: Serin, connectionDetails: {}}", "spec: {type: Prometheus, connectionDetails: {}}", "spec.ratioMetric.total.metricSource.type: \"Prometheus\": want Serin"},
		{"  indicatorRef: error-free\n", "", "spec.objectives: composite: want one indicator"},
		{"objectives: [{target: 0.99}]", "objectives: []", "spec.objectives: none: want at least one"},
		// References.
		{"indicatorRef: error-free", "indicatorRef: error-fre", `spec.indicatorRef: "error-fre": want the name of an SLI beside it: one of error-free`},
		{"{alertPolicyRef: fast}", "{alertPolicyRef: faster}", `spec.alertPolicies[0].alertPolicyRef: "faster": want the name of an AlertPolicy beside it: one of fast, slow`},
		{"conditionRef: burns-fast", "conditionRef: burns", `spec.conditions[0].conditionRef: "burns": want`},
		{"conditions: [{conditionRef: burns-fast}]\n  notificationTargets: [{targetRef: on-call}]", "conditions: [{conditionRef: burns-fast}]\n  notificationTargets: [{targetRef: off-call}]", `spec.notificationTargets[0].targetRef: "off-call": want`},
		{"metricSourceRef: serin, spec: {app: shop-web, unit: session, kind: any}", "metricSourceRef: other, spec: {app: shop-web, unit: session, kind: any}", `metricSourceRef: "other": want the name of a DataSource`},
		{"metadata: {name: slow}", "metadata: {name: fast}", `metadata.name: "fast": want each AlertPolicy once; there is one in f.yaml, line 61`},
		// The vocabulary of events.
		{"unit: session, kind: any", "unit: session, kind: click", `total.metricSource.spec.kind: "click": want any, or one of exposure`},
		{"unit: session, kind: any", "unit: page, kind: any", `total.metricSource.spec.unit: "page": want one of event, session, user`},
		{"unit: session, kind: any", "unit: user, kind: any", `bad.metricSource.spec.unit: "session": want that of total, "user"`},
		{"unit: session, kind: any", "unit: session", "total.metricSource.spec.kind: absent: want a kind"},
		{"fails: error_free", "fails: errors", `spec.fails: "errors": want one of error_free, lcp_good`},
		{"fails: error_free", "fails: telemetry", `spec.fails: "telemetry": want one of`},
		{"fails: error_free", "fails: error_free, weather: x", "spec.weather: no such field: want one of app"},
		{"app: shop-web, kind: vital", "kind: vital", `spec.app: "": want the name of an app`},
		{"where: {page: [/cart, /checkout]}", "where: {pages: x}", `spec.where.pages: "pages": want attr.KEY`},
		{"where: {page: [/cart, /checkout]}", "where: {attr.a=b: x}", `spec.where.attr.a=b`},
		{"where: {page: [/cart, /checkout]}", "where: {attr.a: 'x;y'}", `"x;y": want a text without`},
		{"where: {page: [/cart, /checkout]}", "where: {page: []}", "spec.where.page: nothing: want a text"},
		{"where: {page: [/cart, /checkout]}", "value: {op: less}", `spec.value.op: "less": want one of gt`},
		// Windows.
		{"duration: 30d", "duration: 0d", "spec.timeWindow[0].duration: 0d: want 1m to 366d: a window of zero"},
		{"duration: 30d", "duration: 2Y", "spec.timeWindow[0].duration: 2Y: want 1m to 366d"},
		{"00:00:00, timeZone", "00:00:07, timeZone", `calendar.startTime: "2026-01-01 00:00:07": want a whole quarter`},
		{"budgetingMethod: Occurrences\n  objectives: [{target: 0.99}]", "budgetingMethod: RatioTimeslices\n  objectives: [{target: 0.99, timeSliceWindow: 2d}]", "timeSliceWindow: 2d: want 1m to 1d"},
		{"lookbackWindow: 1h", "lookbackWindow: 0h", "spec.condition.lookbackWindow: 0h: want 1m up to"},
		{"lookbackWindow: 1h", "lookbackWindow: 31d", "spec.condition.lookbackWindow: 31d: want 1m up to the SLO's window"},
		// Annotations.
		{"serin.dev/short-window: 5m", "serin.dev/short-window: 90m", `serin.dev/short-window: "90m": want whole minutes, up to lookbackWindow`},
		{"serin.dev/short-window: 5m", "serin.dev/short: 5m", "serin.dev/short: no such annotation: want one of serin.dev/short-window"},
		{"serin.dev/group-by: release", "serin.dev/group-by: color", `serin.dev/group-by: "color": want one of browser`},
		{"serin.dev/group-by: release", "serin.dev/strata: device,device", `serin.dev/strata: "device,device": want each once`},
		{"serin.dev/group-by: release", "serin.dev/min-users: '0'", `serin.dev/min-users: "0": want a whole number, 1 to 64`},
		{"serin.dev/group-by: release", "serin.dev/min-events: x", `serin.dev/min-events: "x": want a whole number`},
		{"serin.dev/group-by: release", "serin.dev/allowed-lateness: 1y", `serin.dev/allowed-lateness: "1y": want a duration`},
		{"serin.dev/group-by: release", "serin.dev/alerts: workbook", `serin.dev/alerts: "workbook": want none beside alertPolicies`},
		{"approval at 25%, freeze at 0%", "approval at 25%, stop at 0%", "serin.dev/budget-policy: \"approval at 25%, stop at 0%\": want rules"},
		{"approval at 25%, freeze at 0%", "approval at 0%, freeze at 25%", "want freeze at no more than approval"},
		{"approval at 25%, freeze at 0%", "approval at 25%, approval at 0%", "want each action once"},
		{"name: checkout, displayName", "name: checkout, annotations: {serin.dev/form: burn}, displayName", "serin.dev/form: no such annotation: want no annotation of serin.dev/ on this object"},
		// Feasibility: burn is bounded by 1/(1-target).
		{"objectives: [{target: 0.99}]", "objectives: [{target: 0.9}]", "spec.condition.threshold: 14.4: want below 10: under a target of 0.9 nothing burns faster, with everything bad, so that it can never fire; 5 would; or the annotation serin.dev/form: excess with a threshold below 9"},
		{"objectives: [{target: 0.99}]", "objectives: [{target: 0.93}]", "threshold: 14.4: want below 14.29"},
		{"objectives: [{target: 0.99}]", "objectives: [{target: 0.99}, {target: 0.9}]", "threshold: 14.4: want below 10"},
		{"threshold: 14.4", "threshold: 0.5", "threshold: 0.5: want 1 or more for a page"},
		{"threshold: 14.4", "threshold: -1", "threshold: -1: want above 0"},
		// Notes.
		{"service: checkout", "service: chekout", `note spec.service: "chekout": want the name of a Service beside it: one of checkout`},
		{"objectives: [{target: 0.99}]", "objectives: [{target: 0.96}]", "note threshold: 14.4: want 12.5 or less: it fires only with more than half"},
		{"op: gte, threshold: 14.4", "op: lte, threshold: 14.4", `note op: "lte": want gte`},
		{"counter: true", "counter: false", "note counter: false: want true"},
		{"alertWhenBreaching: true\n  alertWhenResolved", "alertWhenResolved", "note spec.alertWhenBreaching: false: want true"},
		{"metadata: {name: serin}\nspec: {type: Serin, connectionDetails: {}}", "metadata: {name: serin}\nspec: {type: Serin, connectionDetails: {}}\n---\napiVersion: openslo/v1\nkind: DataSource\nmetadata: {name: prom}\nspec: {type: Prometheus, connectionDetails: {}}", `note spec.type: "Prometheus": want Serin, where`},
	} {
		text := shop(t)
		if !strings.Contains(text, c.old) {
			t.Fatalf("no %q to replace", c.old)
		}
		text = strings.Replace(text, c.old, c.new, 1)
		if strings.Contains(c.want, "composite") {
			text = strings.Replace(text, "[{target: 0.99}]", "[{target: 0.99, indicatorRef: error-free}]", 1)
		}
		_, notes, err := compile(t, text)
		want, isNote := strings.CutPrefix(c.want, "note ")
		told := ""
		for _, n := range notes {
			told += n.String() + "\n"
		}
		if isNote && err != nil || !isNote && err == nil {
			t.Errorf("%q: error %v, notes %s", c.new, err, told)
			continue
		}
		if err != nil {
			told = err.Error()
		}
		if !strings.Contains(told, want) {
			t.Errorf("%q: no %q in\n%s", c.new, want, told)
		}
	}
}

// TestNoEvidence refuses a burn alert under a target of 0, of which no number of bad
// units is evidence: it could never fire.
func TestNoEvidence(t *testing.T) {
	slow := "threshold: 1, lookbackWindow: 3d"
	text := strings.Replace(strings.Replace(shop(t), slow, "threshold: 0.5, lookbackWindow: 3d", 1), "alertPolicies: [{alertPolicyRef: fast}, {alertPolicyRef: slow}]", "alertPolicies: [{alertPolicyRef: slow}]", 1)
	for target, want := range map[string]string{"0": "can never fire", "0.000001": "can never fire", "0.01": ""} {
		_, _, err := compile(t, strings.Replace(text, "objectives: [{target: 0.99}]", "objectives: [{target: "+target+"}]", 1))
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("a target of %s: %v", target, err)
		}
	}
}

// TestDefaultsOfSlices gives an objective of hours, which names no alerts, such as can
// see an hour: whatever is evaluated holds a slice, and none is of the excess form, which
// slices do not have.
func TestDefaultsOfSlices(t *testing.T) {
	for _, method := range []string{slo.Timeslices, slo.RatioTimeslices} {
		text := strings.Replace(shop(t), "budgetingMethod: Occurrences\n  objectives: [{op: lte, value: 2500, target: 0.75}]", "budgetingMethod: "+method+"\n  objectives: [{op: lte, value: 2500, target: 0.75, timeSliceTarget: 0.9, timeSliceWindow: 1h}]", 1)
		all, _, err := compile(t, text)
		if err != nil || len(all) != 2 || all[1].Method != method || len(all[1].Alerts) != 5 {
			t.Fatalf("%v, %+v", err, all)
		}
		for _, a := range all[1].Alerts[:4] {
			if a.Short < time.Hour || a.Long < a.Short || a.Form != slo.FormBurn || slo.CanFire(a.Form, a.Threshold, 0.75) == slo.Infeasible {
				t.Errorf("%s: %+v", method, a)
			}
		}
	}
}

// TestAcrossFiles has references lead from file to file, and faults told for each.
func TestAcrossFiles(t *testing.T) {
	parts := strings.Split(shop(t), "---\n")
	var files []*File
	for i, p := range parts {
		f, err := Parse(string(rune('a'+i))+".yaml", []byte(p))
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}
	all, _, err := Compile(files...)
	if err != nil || len(all) != 2 {
		t.Fatalf("%v, %d objectives", err, len(all))
	}
	if _, _, err = Compile(files[3], files[4]); err == nil || !strings.Contains(err.Error(), "d.yaml:11: spec.indicatorRef") || !strings.Contains(err.Error(), "e.yaml:") {
		t.Errorf("%v", err)
	}
}

func FuzzCompile(f *testing.F) {
	f.Add([]byte(shop(f)))
	for _, b := range bases {
		f.Add([]byte(b))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := Parse("f", data)
		if err != nil {
			return
		}
		all, _, err := Compile(file)
		if err != nil {
			return
		}
		// What was accepted can be evaluated.
		for _, o := range all {
			b := slo.NewBook(o, 0)
			if err := b.Evaluate("t", slo.Question{At: 1_767_225_600_000}, func(*verdict.SLOState) {}); err != nil {
				t.Errorf("%s: %v", o.Name, err)
			}
			for _, a := range o.Alerts {
				if a.Form != slo.FormTrickle && slo.CanFire(a.Form, a.Threshold, o.Target) == slo.Infeasible {
					t.Errorf("%s: %+v can never fire", o.Name, a)
				}
			}
		}
	})
}
