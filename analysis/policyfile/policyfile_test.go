package policyfile

import (
	"encoding/json"
	"errors"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"serin.dev/serin/analysis/canary"
)

const good = `
kind: policy
name: web
version: 3
alpha: 0.02
strata: [device]
lease: 90s
guardrails:
  error_free: {margin: 1, weight: 0.5, critical: true}
  lcp_good:
    optional: true
    critical: false
  cls_good:
stages:
  - {weight: 0.05, min_sessions: 200, dwell: 5m, deadline: 2h, on_deadline: hold}
  - {weight: 0.25}
`

func TestPolicy(t *testing.T) {
	p, err := Policy("p.yaml", []byte(good))
	if err != nil {
		t.Fatal(err)
	}
	if p.Name != "web" || p.Revision != 3 || p.Alpha != 0.02 || p.Beta != 0.05 || time.Duration(p.Lease) != 90*time.Second {
		t.Errorf("%+v", p)
	}
	if g := p.Guardrails["error_free"]; g.Margin != 1 || g.Floor != 0.002 {
		t.Errorf("error_free: %+v", g)
	}
	if g := p.Guardrails["lcp_good"]; !g.Optional || g.Critical == nil || *g.Critical {
		t.Errorf("lcp_good: %+v", g)
	}
	if s := p.Stages; len(s) != 2 || s[0].OnDeadline != "hold" || s[0].MinSessions != 200 || s[1].MinSessions != 100 {
		t.Errorf("stages: %+v", s)
	}
}

// TestFaultsAreToldTogether has one fault in each line that ends in one's
// mark, and none elsewhere.
func TestFaultsAreToldTogether(t *testing.T) {
	for _, c := range []struct {
		name, text string
		want       []string
	}{
		{"policy", `
kind: policy
version: 0
alpha: 2
beta: "0.05"
strata: [device, shoe, device]
tenants: size
lease: 90
settle: 0s
lisen: x
alpha: 0.01
on_deadline: pray
guardrails:
  speed: {margin: 1}
  lcp_good: {margin: -1, direction: down, unit: page, weigth: 3}
  lcp_p75: {kind: quantile, metric: vital, quantile: 1.5}
  inp_good: [1]
stages:
  - {weight: 0.5}
  - {weight: 0.1, deadline: 1s, min_sessions: 1.5}
  - 7
retire: *nowhere_1
`, nil}, // an unknown anchor is no YAML at all
		{"policy", `kind: policy
version: 0
alpha: 2
beta: "0.05"
strata: [device, shoe, device]
tenants: size
lease: 90
settle: 0s
lisen: x
alpha: 0.01
on_deadline: pray
guardrails:
  speed: {margin: 1}
  lcp_good:
    margin: -1
    direction: down
    unit: page
    weigth: 3
  lcp_p75: {kind: quantile, metric: vital, quantile: 1.5}
  inp_good: [1]
stages:
  - {weight: 0.5}
  - weight: 0.1
    deadline: 1s
    min_sessions: 1.5
  - 7
`, []string{
			`f.yaml:1: name: "": want 1 to 64`,
			`f.yaml:2: version: 0: want something else than 0`,
			`f.yaml:3: alpha: 2: want above 0, at most 0.5`,
			`f.yaml:4: beta: "0.05": want a number, without quotes`,
			`f.yaml:5: strata: "shoe": want of [platform`,
			`f.yaml:5: strata: "device": want each once`,
			`f.yaml:6: tenants: "size": want of [env]`,
			`f.yaml:7: lease: "90": want a number with a unit`,
			`f.yaml:8: settle: 0s: want something else than 0`,
			`f.yaml:9: lisen: no such field: want one of allocation, alpha`,
			`f.yaml:10: alpha (again): 0.01: want each field once; it is in line 3 too`,
			`f.yaml:11: on_deadline: "pray": want rollback or hold`,
			`f.yaml:13: guardrails.speed: "speed": want one of [error_free`,
			`f.yaml:15: guardrails.lcp_good.margin: -1: want above 0, at most 10`,
			`f.yaml:16: guardrails.lcp_good.direction: "down": want increase, decrease or either`,
			`f.yaml:17: guardrails.lcp_good.unit: "page": want session or user`,
			`f.yaml:18: guardrails.lcp_good.weigth: no such field`,
			`f.yaml:19: guardrails.lcp_p75.metric: "vital": want a name too`,
			`f.yaml:19: guardrails.lcp_p75.quantile: 1.5: want above 0, below 1`,
			`f.yaml:20: guardrails.inp_good: a list: want a mapping`,
			`f.yaml:23: stages[1].weight: 0.1: want not below the stage before`,
			`f.yaml:24: stages[1].deadline: 1s: want longer than the dwell`,
			`f.yaml:25: stages[1].min_sessions: 1.5: want a whole number`,
			`f.yaml:26: stages[2]: 7: want a mapping`,
		}},
		{"a list", "- 1\n", []string{"f.yaml:1: file: a list: want fields of a policy"}},
		{"the other kind", "kind: rollout\nname: a\nversion: 1\n", []string{`f.yaml:1: kind: "rollout": want policy`}},
		{"an alias", "kind: policy\nname: &a x\nversion: 1\ntenancy: *a\n", []string{"f.yaml:4: tenancy: *a: want the value itself"}},
	} {
		_, err := Policy("f.yaml", []byte(c.text))
		var faults *Faults
		if c.want == nil {
			if err == nil || errors.As(err, &faults) {
				t.Errorf("%s: %v", c.name, err)
			}
			continue
		}
		if !errors.As(err, &faults) {
			t.Fatalf("%s: %v", c.name, err)
		}
		lines := strings.Split(err.Error(), "\n")
		for i, want := range c.want {
			if i >= len(lines) || !strings.HasPrefix(lines[i], want) {
				t.Errorf("%s: no %q in\n%v", c.name, want, err)
				break
			}
		}
		if len(lines) != len(c.want) {
			t.Errorf("%s: %d faults, want %d:\n%v", c.name, len(lines), len(c.want), err)
		}
	}
}

// TestRollout reads the same rollout from YAML and from JSON.
func TestRollout(t *testing.T) {
	fromYAML, err := Rollout("r.yaml", []byte("kind: rollout\nid: r1\napp: shop\nchange: release/2\ncanary: '2'\nbaseline: '1'\nstages: [{weight: 0.1}]\npolicy: {alpha: 0.05}\n"))
	if err != nil {
		t.Fatal(err)
	}
	var fromJSON canary.Rollout
	if err := json.Unmarshal([]byte(`{"id":"r1","app":"shop","change":"release/2","canary":"2","baseline":"1","stages":[{"weight":0.1}],"policy":{"alpha":0.05}}`), &fromJSON); err != nil {
		t.Fatal(err)
	}
	if err := fromJSON.Normalize(); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(fromYAML, fromJSON) {
		t.Errorf("%+v is not %+v", fromYAML, fromJSON)
	}
	if _, err := Rollout("r.yaml", []byte("kind: rollout\nid: r1\napp: shop\nchange: release/2\ncanary: 2\nbaseline: '1'\npolicy: {name: web}\n")); err == nil ||
		!strings.Contains(err.Error(), "r.yaml:5: canary: 2: want text, in quotes") || strings.Contains(err.Error(), "stages") {
		t.Errorf("a canary that looks like a number: %v", err)
	}
}

// TestExamples keeps the policies that the documentation shows readable.
func TestExamples(t *testing.T) {
	read := func(file string) string {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	_, page, _ := strings.Cut(read("../../docs/policies.md"), "```yaml\n")
	page, _, found := strings.Cut(page, "```")
	if !found {
		t.Fatal("docs/policies.md shows no policy")
	}
	for name, text := range map[string]string{"docs/policies.md": page, "web.yaml": read("testdata/web.yaml")} {
		if _, err := Policy(name, []byte(text)); err != nil {
			t.Error(err)
		}
		if kind, err := Kind([]byte(text)); err != nil || kind != KindPolicy {
			t.Errorf("%s: kind %q", name, kind)
		}
	}
}

// TestEveryFieldIsReadable fails where a policy gets a field of a type that
// the reader does not know.
func TestEveryFieldIsReadable(t *testing.T) {
	var walk func(reflect.Type)
	walk = func(ty reflect.Type) {
		switch ty.Kind() {
		case reflect.Struct:
			for i := range ty.NumField() {
				if ty.Field(i).Tag.Get("json") == "" {
					t.Errorf("%s.%s has no name", ty, ty.Field(i).Name)
				}
				walk(ty.Field(i).Type)
			}
		case reflect.Map, reflect.Slice, reflect.Pointer:
			walk(ty.Elem())
		case reflect.String, reflect.Bool, reflect.Float64, reflect.Int, reflect.Int64:
		default:
			t.Errorf("%s: the reader knows no %s", ty, ty.Kind())
		}
	}
	walk(reflect.TypeFor[canary.Rollout]())
}

func FuzzPolicy(f *testing.F) {
	f.Add([]byte(good))
	f.Add([]byte("kind: policy\nguardrails: {x: 1}\nstages: [1, {weight: .nan}]\n"))
	f.Add([]byte("a: &a [*a]\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := Policy("f", data)
		if err != nil {
			return
		}
		// What was read is valid as the API would have it too.
		text, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		var again canary.Policy
		if err := json.Unmarshal(text, &again); err != nil {
			t.Fatal(err)
		}
		if err := again.Normalize(); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	})
}
