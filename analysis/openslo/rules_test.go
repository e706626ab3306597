package openslo

import (
	"errors"
	"os"
	"strings"
	"testing"

	"serin.dev/serin/analysis/yamlfile"
)

// One valid object of each kind; the table below changes them.
var bases = map[string]string{
	"service": `apiVersion: openslo/v1
kind: Service
metadata:
  name: web
  displayName: Web
  labels: {team: [a, b], env: prod}
  annotations: {my-domain.org/key: x}
spec: {description: d}
`,
	"source": `apiVersion: openslo/v1
kind: DataSource
metadata: {name: serin}
spec: {type: Serin, connectionDetails: {}}
`,
	"sli": `apiVersion: openslo/v1
kind: SLI
metadata: {name: ok}
spec:
  description: d
  ratioMetric:
    counter: true
    good: {metricSource: {type: Serin, spec: {a: b}}}
    total: {metricSource: {metricSourceRef: serin, spec: {a: b}}}
`,
	"raw": `apiVersion: openslo/v1
kind: SLI
metadata: {name: ok}
spec:
  ratioMetric:
    counter: true
    rawType: success
    raw: {metricSource: {type: Serin, spec: {a: b}}}
`,
	"slo": `apiVersion: openslo/v1
kind: SLO
metadata: {name: slo}
spec:
  description: d
  service: web
  indicator:
    metadata: {name: ok}
    spec:
      ratioMetric:
        counter: true
        good: {metricSource: {type: Serin, spec: {a: b}}}
        total: {metricSource: {type: Serin, spec: {a: b}}}
  timeWindow:
    - duration: 1w
      isRolling: false
      calendar: {startTime: 2022-01-01 12:00:00, timeZone: America/New_York}
  budgetingMethod: Timeslices
  objectives:
    - displayName: Good
      target: 0.995
      timeSliceTarget: 0.95
      timeSliceWindow: 1m
  alertPolicies:
    - alertPolicyRef: p
`,
	"threshold": `apiVersion: openslo/v1
kind: SLO
metadata: {name: slo}
spec:
  service: web
  indicator:
    metadata: {name: fast}
    spec:
      thresholdMetric: {metricSource: {type: Serin, spec: {a: b}}}
  timeWindow: [{duration: 28d, isRolling: true}]
  budgetingMethod: Occurrences
  objectives:
    - {op: lte, value: 2500, target: 0.75}
`,
	"composite": `apiVersion: openslo/v1
kind: SLO
metadata: {name: slo}
spec:
  service: web
  timeWindow: [{duration: 28d, isRolling: true}]
  budgetingMethod: Occurrences
  objectives:
    - {target: 0.75, indicatorRef: ok, compositeWeight: 2}
    - {target: 0.9, indicatorRef: other, compositeWeight: 1}
`,
	"policy": `apiVersion: openslo/v1
kind: AlertPolicy
metadata: {name: p}
spec:
  description: d
  alertWhenBreaching: true
  conditions:
    - conditionRef: c
  notificationTargets:
    - targetRef: t
`,
	"inline": `apiVersion: openslo/v1
kind: AlertPolicy
metadata: {name: p}
spec:
  conditions:
    - kind: AlertCondition
      metadata: {name: c}
      spec: {severity: page, condition: {kind: burnrate, op: gte, threshold: 2, lookbackWindow: 1h}}
  notificationTargets:
    - kind: AlertNotificationTarget
      metadata: {name: t}
      spec: {target: slack}
`,
	"condition": `apiVersion: openslo/v1
kind: AlertCondition
metadata: {name: c}
spec:
  description: d
  severity: page
  condition:
    kind: burnrate
    op: gte
    threshold: 2
    lookbackWindow: 1h
    alertAfter: 5m
`,
	"target": `apiVersion: openslo/v1
kind: AlertNotificationTarget
metadata: {name: t}
spec: {description: d, target: slack}
`,
}

var (
	long63   = strings.Repeat("l", 63)
	tooLong  = "description: " + strings.Repeat("l", 1051)
	justLong = "description: " + strings.Repeat("l", 1050)
)

// TestRules restates the decisions that the tests of the specification's Go SDK
// demand of it (pkg/openslo/v1/*_test.go), and some that its rules imply: each
// base with one text replaced is accepted, or refused with a fault of a field.
func TestRules(t *testing.T) {
	for _, c := range []struct {
		base, old, new string
		fault          string // field; empty: accepted
	}{
		// Version, kind and the form.
		{"service", "openslo/v1", "openslo/v1alpha", "apiVersion"},
		{"service", "openslo/v1", "openslo.com/v2alpha", "apiVersion"},
		{"service", "openslo/v1", "openslo/v2", "apiVersion"},
		{"service", "apiVersion: openslo/v1\n", "", "apiVersion"},
		{"service", "kind: Service", "kind: Servant", "kind"},
		{"service", "kind: Service\n", "", "kind"},
		{"service", "spec: {", "spec: {unknown: 1, ", "spec.unknown"},
		{"service", "apiVersion", "extra: 1\napiVersion", "extra"},
		// Metadata.
		{"service", "name: web", "name: MY SERVICE", "metadata.name"},
		{"service", "name: web", "name: " + long63, ""},
		{"service", "name: web", "name: " + long63 + "l", "metadata.name"},
		{"service", "name: web", "name: 1web", ""},
		{"service", "name: web", "name: 12", "metadata.name"},
		{"service", "name: web", "name: web-", "metadata.name"},
		{"service", "name: web\n", "x: web\n", "metadata.name"},
		{"service", "displayName: Web", "displayName: " + long63, ""},
		{"service", "displayName: Web", "displayName: " + long63 + "l", "metadata.displayName"},
		{"service", "displayName: Web", "displayName: ''", ""},
		{"service", "team: [a, b]", long63 + ": []", ""},
		{"service", "team: [a, b]", "net: [this, that]", ""},
		{"service", "team: [a, b]", "net: ''", ""},
		{"service", "team: [a, b]", "net_this.that-this: []", ""},
		{"service", "team: [a, b]", "net_.-this: []", ""},
		{"service", "team: [a, b]", "9net: []", ""},
		{"service", "team: [a, b]", "nEt: []", ""},
		{"service", "team: [a, b]", long63 + "l: []", "metadata.labels." + long63 + "l"},
		{"service", "team: [a, b]", "net_: []", "metadata.labels.net_"},
		{"service", "team: [a, b]", "net.: []", "metadata.labels.net."},
		{"service", "team: [a, b]", "net-: []", "metadata.labels.net-"},
		{"service", "team: [a, b]", "_net: []", "metadata.labels._net"},
		{"service", "team: [a, b]", "-net: []", "metadata.labels.-net"},
		{"service", "team: [a, b]", ".net: []", "metadata.labels..net"},
		{"service", "team: [a, b]", "team: {a: b}", "metadata.labels.team"},
		{"service", "team: [a, b]", "team: [1]", "metadata.labels.team[0]"},
		{"service", "my-domain.org/key", long63, ""},
		{"service", "my-domain.org/key", long63 + "." + long63 + "." + long63 + "/" + long63, ""},
		{"service", "my-domain.org/key", "9net", ""},
		{"service", "my-domain.org/key", "domain/service", ""},
		{"service", "my-domain.org/key", "domain.this.org/service.foo", ""},
		{"service", "my-domain.org/key", "my-org.com/spec.indicator.metricSource", ""},
		{"service", "my-domain.org/key", long63 + "l", "metadata.annotations." + long63 + "l"},
		{"service", "my-domain.org/key", strings.Repeat("l", 254) + "/net", "metadata.annotations." + strings.Repeat("l", 254) + "/net"},
		{"service", "my-domain.org/key", "net_", "metadata.annotations.net_"},
		{"service", "my-domain.org/key", "-net", "metadata.annotations.-net"},
		{"service", "my-domain.org/key", "openslo.com/", "metadata.annotations.openslo.com/"},
		{"service", "my-domain.org/key", "openslo.com!/service", "metadata.annotations.openslo.com!/service"},
		{"service", "my-domain.org/key", "_openslo.com/service", "metadata.annotations._openslo.com/service"},
		{"service", "my-domain.org/key", "openslo.com./service", "metadata.annotations.openslo.com./service"},
		{"service", "my-domain.org/key", "openslo..this.com/service", "metadata.annotations.openslo..this.com/service"},
		{"service", "my-domain.org/key", "openslo.-this.com/service", "metadata.annotations.openslo.-this.com/service"},
		{"service", "my-domain.org/key", "openslo_this.org/service", "metadata.annotations.openslo_this.org/service"},
		// Service, data source, target.
		{"service", "description: d", justLong, ""},
		{"service", "description: d", tooLong, "spec.description"},
		{"service", "spec: {description: d}", "spec: {}", ""},
		{"service", "spec: {description: d}\n", "", ""},
		{"source", "type: Serin, ", "", "spec.type"},
		{"source", ", connectionDetails: {}", "", "spec.connectionDetails"},
		{"source", "connectionDetails: {}", "connectionDetails: [{url: x}]", ""},
		{"source", "type: Serin", tooLong + ", type: Serin", "spec.description"},
		{"target", "target: slack", "target: ''", "spec.target"},
		{"target", "description: d", tooLong, "spec.description"},
		// SLI.
		{"sli", "good: {metricSource: {type: Serin, spec: {a: b}}}", "good: {metricSource: {type: Serin, spec: {a: [1, .inf]}}}", "spec.ratioMetric.good.metricSource.spec.a[1]"},
		{"sli", "description: d", tooLong, "spec.description"},
		{"sli", "ratioMetric:", "thresholdMetric: {metricSource: {spec: {a: b}}}\n  ratioMetric:", "spec"},
		{"sli", bases["sli"][strings.Index(bases["sli"], "  ratioMetric"):], "", "spec"},
		{"sli", "    good: {metricSource: {type: Serin, spec: {a: b}}}\n", "", "spec.ratioMetric"},
		{"sli", "    total: {metricSource: {metricSourceRef: serin, spec: {a: b}}}\n", "", "spec.ratioMetric"},
		{"sli", "    good:", "    bad: {metricSource: {spec: {a: b}}}\n    good:", "spec.ratioMetric"},
		{"sli", "    good:", "    bad:", ""},
		{"sli", "    good:", "    raw: {metricSource: {spec: {a: b}}}\n    rawType: success\n    good:", "spec.ratioMetric"},
		{"sli", "metricSourceRef: serin", "metricSourceRef: my serin", "spec.ratioMetric.total.metricSource.metricSourceRef"},
		{"sli", "type: Serin, spec: {a: b}", "type: Serin, spec: {}", "spec.ratioMetric.good.metricSource.spec"},
		{"sli", "type: Serin, spec: {a: b}", "type: Serin", "spec.ratioMetric.good.metricSource.spec"},
		{"sli", "type: Serin, spec: {a: b}", "type: Serin, spec: [a]", "spec.ratioMetric.good.metricSource.spec"},
		{"sli", "type: Serin, spec: {a: b}", "spec: {a: b}", ""},
		{"sli", "good: {metricSource: {type: Serin, spec: {a: b}}}", "good: {}", "spec.ratioMetric.good.metricSource"},
		{"raw", "rawType: success", "rawType: failure", ""},
		{"raw", "rawType: success", "rawType: maybe", "spec.ratioMetric.rawType"},
		{"raw", "    rawType: success\n", "", "spec.ratioMetric.rawType"},
		{"raw", "spec: {a: b}", "spec: {}", "spec.ratioMetric.raw.metricSource.spec"},
		// SLO.
		{"slo", "description: d", tooLong, "spec.description"},
		{"slo", "budgetingMethod: Timeslices", "budgetingMethod: invalid", "spec.budgetingMethod"},
		{"slo", "  budgetingMethod: Timeslices\n", "", "spec.budgetingMethod"},
		{"slo", "budgetingMethod: Timeslices", "budgetingMethod: Occurrences", ""},
		{"slo", "service: web", "service: ''", "spec.service"},
		{"slo", "service: web", "service: Any Text", ""},
		{"slo", "  service: web\n", "  service: web\n  indicatorRef: ok\n", "spec"},
		{"threshold", "indicator:\n    metadata: {name: fast}\n    spec:\n      thresholdMetric: {metricSource: {type: Serin, spec: {a: b}}}", "indicatorRef: fast", ""},
		{"threshold", "indicator:\n    metadata: {name: fast}\n    spec:\n      thresholdMetric: {metricSource: {type: Serin, spec: {a: b}}}", "indicatorRef: FAST", "spec.indicatorRef"},
		{"threshold", "  indicator:\n    metadata: {name: fast}\n    spec:\n      thresholdMetric: {metricSource: {type: Serin, spec: {a: b}}}\n", "", "spec.indicator"},
		{"threshold", "metadata: {name: fast}", "metadata: {name: FAST}", "spec.indicator.metadata.name"},
		{"threshold", "spec: {a: b}", "spec: {}", "spec.indicator.spec.thresholdMetric.metricSource.spec"},
		{"threshold", "[{duration: 28d, isRolling: true}]", "[]", "spec.timeWindow"},
		{"threshold", "[{duration: 28d, isRolling: true}]", "[{duration: 28d, isRolling: true}, {duration: 28d, isRolling: true}]", "spec.timeWindow"},
		{"threshold", "duration: 28d, ", "", "spec.timeWindow[0].duration"},
		{"threshold", "duration: 28d", "duration: ''", "spec.timeWindow[0].duration"},
		{"threshold", "duration: 28d", "duration: 28", "spec.timeWindow[0].duration"},
		{"threshold", "duration: 28d", "duration: 28s", "spec.timeWindow[0].duration"},
		{"threshold", "duration: 28d", "duration: -28d", "spec.timeWindow[0].duration"},
		{"threshold", "duration: 28d", "duration: d", "spec.timeWindow[0].duration"},
		{"threshold", "duration: 28d", "duration: 1M", ""},
		{"threshold", "duration: 28d", "duration: 1Q", ""},
		{"threshold", "duration: 28d", "duration: 1Y", ""},
		{"threshold", "duration: 28d", "duration: 0w", ""},
		{"threshold", "isRolling: true", "isRolling: false", "spec.timeWindow[0].calendar"},
		{"threshold", "isRolling: true", "isRolling: true, calendar: {startTime: 2022-01-01 12:00:00, timeZone: UTC}", "spec.timeWindow[0].calendar"},
		{"slo", "startTime: 2022-01-01 12:00:00, ", "", "spec.timeWindow[0].calendar.startTime"},
		{"slo", "2022-01-01 12:00:00", "2022-01-01", "spec.timeWindow[0].calendar.startTime"},
		{"slo", "2022-01-01 12:00:00", "'2022-01-01 12:00:00'", ""},
		{"slo", "America/New_York", "America/Old_York", "spec.timeWindow[0].calendar.timeZone"},
		{"slo", "America/New_York", "Local", "spec.timeWindow[0].calendar.timeZone"},
		{"slo", ", timeZone: America/New_York", "", "spec.timeWindow[0].calendar.timeZone"},
		{"slo", "target: 0.995", "target: 0", ""},
		{"slo", "target: 0.995", "target: 0.9999", ""},
		{"slo", "target: 0.995", "target: 1", "spec.objectives[0].target"},
		{"slo", "target: 0.995", "target: 1.1", "spec.objectives[0].target"},
		{"slo", "target: 0.995", "target: -0.1", "spec.objectives[0].target"},
		{"slo", "target: 0.995", "targetPercent: 0", ""},
		{"slo", "target: 0.995", "targetPercent: 99.99", ""},
		{"slo", "target: 0.995", "targetPercent: 100", "spec.objectives[0].targetPercent"},
		{"slo", "target: 0.995", "targetPercent: -1", "spec.objectives[0].targetPercent"},
		{"slo", "      target: 0.995\n", "", "spec.objectives[0]"},
		{"slo", "target: 0.995", "target: 0.995\n      targetPercent: 99.5", "spec.objectives[0]"},
		{"slo", "target: 0.995", "target: '0.995'", "spec.objectives[0].target"},
		{"slo", "displayName: Good", "op: gt", "spec.objectives[0].op"},
		{"slo", "displayName: Good", "value: 1", "spec.objectives[0].value"},
		{"threshold", "op: lte, ", "", "spec.objectives[0].op"},
		{"threshold", "value: 2500, ", "", "spec.objectives[0].value"},
		{"threshold", "value: 2500", "value: 0", ""},
		{"threshold", "value: 2500", "value: .nan", "spec.objectives[0].value"},
		{"threshold", "value: 2500", "value: -.inf", "spec.objectives[0].value"},
		{"threshold", "op: lte", "op: gt", ""},
		{"threshold", "op: lte", "op: gte", ""},
		{"threshold", "op: lte", "op: lt", ""},
		{"threshold", "op: lte", "op: less", "spec.objectives[0].op"},
		{"slo", "      timeSliceTarget: 0.95\n", "", "spec.objectives[0].timeSliceTarget"},
		{"slo", "timeSliceTarget: 0.95", "timeSliceTarget: 1", ""},
		{"slo", "timeSliceTarget: 0.95", "timeSliceTarget: 0", "spec.objectives[0].timeSliceTarget"},
		{"slo", "timeSliceTarget: 0.95", "timeSliceTarget: 1.1", "spec.objectives[0].timeSliceTarget"},
		{"slo", "      timeSliceWindow: 1m\n", "", "spec.objectives[0].timeSliceWindow"},
		{"slo", "timeSliceWindow: 1m", "timeSliceWindow: 5", "spec.objectives[0].timeSliceWindow"},
		{"slo", "timeSliceWindow: 1m", "timeSliceWindow: 1x", "spec.objectives[0].timeSliceWindow"},
		{"slo", "budgetingMethod: Timeslices", "budgetingMethod: RatioTimeslices", ""},
		{"threshold", "budgetingMethod: Occurrences", "budgetingMethod: RatioTimeslices", "spec.objectives[0].timeSliceWindow"},
		{"threshold", "  objectives:\n    - {op: lte, value: 2500, target: 0.75}\n", "  objectives: []\n", ""},
		{"slo", "    - alertPolicyRef: p\n", "    []\n", ""},
		{"slo", "alertPolicyRef: p", "alertPolicyRef: P", "spec.alertPolicies[0].alertPolicyRef"},
		{"slo", "alertPolicyRef: p", "alertPolicyRef: ''", "spec.alertPolicies[0].alertPolicyRef"},
		{"slo", "alertPolicyRef: p", "{}", "spec.alertPolicies[0]"},
		{"slo", "alertPolicyRef: p", "alertPolicyRef: p\n      kind: AlertPolicy", "spec.alertPolicies[0]"},
		{"slo", "alertPolicyRef: p", "kind: AlertPolicies\n      metadata: {name: p}\n      spec: {conditions: [{conditionRef: c}], notificationTargets: [{targetRef: t}]}", "spec.alertPolicies[0].kind"},
		{"slo", "alertPolicyRef: p", "kind: AlertPolicy\n      metadata: {name: p}\n      spec: {conditions: [{conditionRef: c}], notificationTargets: [{targetRef: t}]}", ""},
		{"slo", "alertPolicyRef: p", "kind: AlertPolicy\n      metadata: {name: p}", "spec.alertPolicies[0].spec"},
		// Composite.
		{"composite", "", "", ""},
		{"composite", "compositeWeight: 2", "compositeWeight: 0", "spec.objectives[0].compositeWeight"},
		{"composite", "compositeWeight: 2", "compositeWeight: -1", "spec.objectives[0].compositeWeight"},
		{"composite", ", compositeWeight: 2", "", ""},
		{"composite", ", indicatorRef: ok", "", ""},
		{"composite", "indicatorRef: ok", "indicatorRef: OK", "spec.objectives[0].indicatorRef"},
		{"composite", "service: web", "service: web\n  indicatorRef: ok", "spec.indicator"},
		{"composite", "indicatorRef: ok", "indicatorRef: ok, indicator: {metadata: {name: a}, spec: {thresholdMetric: {metricSource: {spec: {a: b}}}}}", "spec.objectives[0]"},
		// Alert policy.
		{"policy", "description: d", tooLong, "spec.description"},
		{"policy", "    - conditionRef: c\n", "    []\n", "spec.conditions"},
		{"policy", "    - conditionRef: c\n", "    - conditionRef: c\n    - conditionRef: d\n", "spec.conditions"},
		{"policy", "conditionRef: c", "conditionRef: C", "spec.conditions[0].conditionRef"},
		{"policy", "conditionRef: c", "{}", "spec.conditions[0]"},
		{"policy", "    - targetRef: t\n", "    []\n", "spec.notificationTargets"},
		{"policy", "    - targetRef: t\n", "    - targetRef: t\n    - targetRef: u\n", ""},
		{"policy", "targetRef: t", "targetRef: T", "spec.notificationTargets[0].targetRef"},
		{"inline", "", "", ""},
		{"inline", "kind: AlertCondition\n", "kind: Condition\n", "spec.conditions[0].kind"},
		{"inline", "- kind: AlertCondition\n", "- conditionRef: c\n      kind: AlertCondition\n", "spec.conditions[0]"},
		{"inline", "metadata: {name: c}", "metadata: {name: C}", "spec.conditions[0].metadata.name"},
		{"inline", "severity: page, ", "", "spec.conditions[0].spec.severity"},
		{"inline", "kind: AlertNotificationTarget\n", "kind: Target\n", "spec.notificationTargets[0].kind"},
		{"inline", "target: slack", "target: ''", "spec.notificationTargets[0].spec.target"},
		// Alert condition.
		{"condition", "description: d", tooLong, "spec.description"},
		{"condition", "severity: page", "severity: ''", "spec.severity"},
		{"condition", "severity: page", "severity: any text", ""},
		{"condition", "kind: burnrate", "kind: burn", "spec.condition.kind"},
		{"condition", "    kind: burnrate\n", "", "spec.condition.kind"},
		{"condition", "    op: gte\n", "", "spec.condition.op"},
		{"condition", "op: gte", "op: is", "spec.condition.op"},
		{"condition", "op: gte", "op: lte", ""},
		{"condition", "    threshold: 2\n", "", "spec.condition.threshold"},
		{"condition", "threshold: 2", "threshold: 0", ""},
		{"condition", "threshold: 2", "threshold: .inf", "spec.condition.threshold"},
		{"condition", "    lookbackWindow: 1h\n", "", "spec.condition.lookbackWindow"},
		{"condition", "lookbackWindow: 1h", "lookbackWindow: 1hour", "spec.condition.lookbackWindow"},
		{"condition", "    alertAfter: 5m\n", "", ""},
		{"condition", "alertAfter: 5m", "alertAfter: ''", "spec.condition.alertAfter"},
		{"condition", bases["condition"][strings.Index(bases["condition"], "spec:"):], "", "spec"},
	} {
		text := bases[c.base]
		if c.old != "" {
			if !strings.Contains(text, c.old) {
				t.Fatalf("%s: no %q to replace", c.base, c.old)
			}
			text = strings.Replace(text, c.old, c.new, 1)
		}
		_, err := Parse("f.yaml", []byte(text))
		var faults *yamlfile.Faults
		switch {
		case c.fault == "" && err != nil:
			t.Errorf("%s with %q for %q: %v", c.base, c.new, c.old, err)
		case c.fault != "" && !errors.As(err, &faults):
			t.Errorf("%s with %q for %q: accepted: %v", c.base, c.new, c.old, err)
		case c.fault != "":
			found := false
			for _, f := range faults.Faults {
				found = found || f.Field == c.fault
				if f.Line < 1 || f.Want == "" || f.Value == "" {
					t.Errorf("%s with %q: a fault without a line, a value or what is allowed: %+v", c.base, c.new, f)
				}
			}
			if !found {
				t.Errorf("%s with %q for %q: no fault of %s:\n%v", c.base, c.new, c.old, c.fault, err)
			}
		}
	}
}

// TestDocuments reads what the SDK's decoder reads: documents and lists of
// objects, in one file.
// TestDecisionsOfTheSDK has documents of which the specification's Go SDK itself
// said whether it accepts them (testdata/decisions.txt says how they were made).
func TestDecisionsOfTheSDK(t *testing.T) {
	text, err := os.ReadFile("testdata/decisions.txt")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	for _, part := range strings.Split(string(text), "#### ")[1:] {
		decision, doc, _ := strings.Cut(part, "\n")
		seen[decision]++
		if _, err := Parse("a.yaml", []byte(doc)); (err == nil) != (decision == "accepted") {
			t.Errorf("%s by the SDK, here: %v\n%s", decision, err, doc)
		}
	}
	if seen["accepted"] < 100 || seen["refused"] < 300 || len(seen) != 2 {
		t.Errorf("decisions: %v", seen)
	}
}

func TestDocuments(t *testing.T) {
	one, two := bases["service"], bases["sli"]
	list := "- " + strings.ReplaceAll(strings.TrimSpace(one), "\n", "\n  ") + "\n- " + strings.ReplaceAll(strings.TrimSpace(two), "\n", "\n  ") + "\n"
	for _, c := range []struct {
		name, text string
		want       int
	}{
		{"one", one, 1},
		{"two documents", one + "---\n" + two, 2},
		{"an empty one between", "---\n" + one + "---\n# nothing\n---\n" + two, 2},
		{"a list", list, 2},
		{"a list and a document", list + "---\n" + one, 3},
		{"JSON", `{"apiVersion":"openslo/v1","kind":"Service","metadata":{"name":"a"},"spec":{}}`, 1},
	} {
		f, err := Parse("f.yaml", []byte(c.text))
		if err != nil || f.Objects() != c.want {
			t.Errorf("%s: %v, %d objects, want %d", c.name, err, f.Objects(), c.want)
		}
		if !Is([]byte(c.text)) {
			t.Errorf("%s: not told to be of OpenSLO", c.name)
		}
	}
	for _, text := range []string{"", "7\n", "- 7\n", "# nothing\n"} {
		if _, err := Parse("f.yaml", []byte(text)); err == nil {
			t.Errorf("%q is accepted", text)
		}
	}
	if Is([]byte("kind: policy\n")) {
		t.Error("a policy is told to be of OpenSLO")
	}
}

// TestFaultsAreToldTogether has a fault in each of two objects, with the lines
// of the file.
func TestFaultsAreToldTogether(t *testing.T) {
	text := strings.Replace(bases["service"], "name: web", "name: WEB", 1) + "---\n" +
		strings.Replace(strings.Replace(bases["condition"], "threshold: 2", "threshold: two", 1), "op: gte", "op: is", 1)
	_, err := Parse("f.yaml", []byte(text))
	want := []string{`f.yaml:4: metadata.name: "WEB": want 1 to 63 of a-z`, `f.yaml:18: spec.condition.op: "is": want one of gt, gte, lt, lte`,
		`f.yaml:19: spec.condition.threshold: "two": want a number, without quotes`}
	if err == nil {
		t.Fatal("accepted")
	}
	lines := strings.Split(err.Error(), "\n")
	if len(lines) != len(want) {
		t.Fatalf("%d faults, want %d:\n%v", len(lines), len(want), err)
	}
	for i := range want {
		if !strings.HasPrefix(lines[i], want[i]) {
			t.Errorf("%s\nwant %s", lines[i], want[i])
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, b := range bases {
		f.Add([]byte(b))
	}
	f.Add([]byte("- &a [*a]\n---\nkind: SLO\napiVersion: openslo/v1\nspec: {objectives: [{target: .nan}]}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := Parse("f", data)
		if err == nil && file.Objects() == 0 {
			t.Error("no object, and no fault")
		}
	})
}
