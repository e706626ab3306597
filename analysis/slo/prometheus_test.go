package slo

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"serin.dev/serin/analysis/verdict"
)

// tool returns the path of a program of Prometheus. Where it is missing the test is left
// out, unless SERIN_NEED_PROMTOOL says that it must not be (.ci/run sets it).
func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		if os.Getenv("SERIN_NEED_PROMTOOL") != "" {
			t.Fatalf("no %s; type: sudo apt-get install -y prometheus", name)
		}
		t.Skip("no " + name)
	}
	return path
}

// TestPrometheus has Prometheus's own rule evaluation, in promtool, record the bad
// ratios of the workbook's windows and burn its alerts over random histories, and
// compares at many times.
func TestPrometheus(t *testing.T) {
	promtool := tool(t, "promtool")
	// Of Prometheus 2 a range holds the samples at both of its ends, so that windows
	// are half a minute shorter than their minutes.
	span := func(d time.Duration) string { return fmt.Sprintf("%ds", int(d/time.Second)-30) }
	o := testObjective(0.99)
	o.Alerts = o.Alerts[:4]
	o.MinUnits, o.MinClients = 0, 1
	var rules strings.Builder
	rules.WriteString("groups:\n- name: slo\n  interval: 15m\n  rules:\n")
	for _, a := range o.Alerts {
		var both []string
		for part, d := range map[string]time.Duration{"long": a.Long, "short": a.Short} {
			name := "slo:" + strings.ReplaceAll(a.Name, "-", "_") + ":" + part
			fmt.Fprintf(&rules, "  - record: %s\n    expr: sum_over_time(bad[%s]) / sum_over_time(total[%s])\n", name, span(d), span(d))
			both = append(both, fmt.Sprintf("(%s >= bool %.17g)", name, a.Threshold*o.Budget()))
		}
		fmt.Fprintf(&rules, "  - record: slo:%s:burns\n    expr: %s\n", strings.ReplaceAll(a.Name, "-", "_"), strings.Join(both, " * "))
	}
	r := rand.New(rand.NewPCG(11, 12))
	var tests strings.Builder
	tests.WriteString("rule_files: [rules.yaml]\nevaluation_interval: 15m\ntests:\n")
	compared, burned := 0, 0
	for range 2 {
		b := NewBook(o, 0)
		b.Cohorts = append(b.Cohorts, &Cohort{})
		const length = 5 * 1440
		total, bad := []string{"_"}, []string{"_"} // the sample of a minute is at its end
		var checks strings.Builder
		p := 0.01
		for m := range int32(length) {
			if r.IntN(200) == 0 {
				p = []float64{0.001, 0.01, 0.05, 0.3, 0.9}[r.IntN(5)]
			}
			n := poisson(r, 6)
			k := 0
			for range n {
				if r.Float64() < p {
					k++
				}
			}
			at := start + m
			b.Advance(int64(at) * 60_000)
			if n > 0 {
				b.All.Units.Add(at, Counts{int64(n), int64(k), int64(k)})
				b.All.failing(uint64(m), at, 1)
			}
			total, bad = append(total, fmt.Sprint(n)), append(bad, fmt.Sprint(k))
			// What begins over a day ago is kept by quarters, on which these end.
			if m < 3*1440 || (m+1)%quarter != 0 || r.IntN(3) > 0 {
				continue
			}
			err := b.Evaluate("t", Question{At: int64(at+1) * 60_000}, func(s *verdict.SLOState) {
				for i, a := range o.Alerts {
					got := &s.Alerts[i]
					name := strings.ReplaceAll(a.Name, "-", "_")
					short := b.All.Units.Sum(at+1-minutes(a.Short), at+1)
					burns := 0
					if float64(got.LongRate) >= a.Threshold && float64(got.ShortRate) >= a.Threshold {
						burns = 1
						burned++
					}
					for what, value := range map[string]float64{"long": float64(got.Bad) / float64(got.Total), "short": float64(short.Bad) / float64(short.Total), "burns": float64(burns)} {
						compared++
						fmt.Fprintf(&checks, "  - expr: slo:%s:%s\n    eval_time: %dm\n    exp_samples: [{labels: 'slo:%s:%s', value: %.17g}]\n", name, what, m+1, name, what, value)
					}
				}
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		fmt.Fprintf(&tests, "- interval: 1m\n  input_series:\n  - {series: total, values: '%s'}\n  - {series: bad, values: '%s'}\n  promql_expr_test:\n%s", strings.Join(total, " "), strings.Join(bad, " "), checks.String())
	}
	if compared < 1000 || burned < 20 {
		t.Fatalf("only %d figures to compare, %d that burn", compared, burned)
	}
	dir := t.TempDir()
	for name, text := range map[string]string{"rules.yaml": rules.String(), "test.yaml": tests.String()} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), promtool, "test", "rules", "test.yaml")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("Prometheus says otherwise: %v\n%s", err, out[:min(len(out), 4000)])
	}
	t.Logf("%d figures are Prometheus's too, %d of them alerts that burn", compared, burned)
}
