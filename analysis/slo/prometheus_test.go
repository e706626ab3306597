package slo

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"serin.dev/serin/analysis/verdict"
)

// prometheus returns the path of one of its programs. Where it is missing the test is
// left out, unless SERIN_NEED_PROMTOOL says that it must not be (.ci/run sets it).
func prometheus(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		if os.Getenv("SERIN_NEED_PROMTOOL") != "" {
			t.Fatalf("no %s; type: sudo apt-get install -y prometheus", name)
		}
		t.Skipf("no %s", name)
	}
	return path
}

// comparison is an objective with what Prometheus records for it: the bad ratios of
// the workbook's windows, and whether an alert burns.
type comparison struct {
	o     Objective
	rules string
}

// recorded is the name of a rule.
func recorded(alert, what string) string {
	return "slo:" + strings.ReplaceAll(alert, "-", "_") + ":" + what
}

func newComparison() comparison {
	// Of Prometheus 2 a range holds the samples at both of its ends, and a server
	// evaluates a group anywhere in its interval: a second less than the minutes holds as
	// many samples as there are minutes, up to 58 s after the last.
	span := func(d time.Duration) string { return fmt.Sprintf("%ds", int(d/time.Second)-1) }
	o := testObjective(0.99)
	o.Alerts = o.Alerts[:4]
	o.MinUnits, o.MinClients = 0, 1
	var rules strings.Builder
	rules.WriteString("groups:\n- name: slo\n  interval: 1m\n  rules:\n")
	for _, a := range o.Alerts {
		var both []string
		for part, d := range map[string]time.Duration{"long": a.Long, "short": a.Short} {
			ratio := fmt.Sprintf("sum_over_time(bad[%s]) / sum_over_time(total[%s])", span(d), span(d))
			fmt.Fprintf(&rules, "  - record: %s\n    expr: %s\n", recorded(a.Name, part), ratio)
			both = append(both, fmt.Sprintf("((%s) > bool %.17g)", ratio, a.Threshold*o.Budget()))
		}
		fmt.Fprintf(&rules, "  - record: %s\n    expr: %s\n", recorded(a.Name, "burns"), strings.Join(both, " * "))
	}
	return comparison{o, rules.String()}
}

// figure is what Serin says at the end of a minute of a history, from 1.
type figure struct {
	name   string
	minute int
	value  float64
}

// history plays random minutes, and returns the units of each, those that are bad,
// and the figures at many times.
func (c *comparison) history(t *testing.T, r *rand.Rand) (total, bad []int, all []figure) {
	t.Helper()
	b := NewBook(c.o, 0)
	b.Cohorts = append(b.Cohorts, &Cohort{})
	p := 0.01
	for m := range int32(5 * 1440) {
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
		total, bad = append(total, n), append(bad, k)
		// What begins over a day ago is kept by quarters, on which these end.
		if m < 3*1440 || (m+1)%quarter != 0 || r.IntN(3) > 0 {
			continue
		}
		err := b.Evaluate("t", Question{At: int64(at+1) * 60_000}, func(s *verdict.SLOState) {
			for i, a := range c.o.Alerts {
				got := &s.Alerts[i]
				short := b.All.Units.Sum(at+1-minutes(a.Short), at+1)
				burns := 0.
				if float64(got.LongRate) > a.Threshold && float64(got.ShortRate) > a.Threshold {
					burns = 1
				}
				all = append(all, figure{recorded(a.Name, "long"), int(m) + 1, float64(got.Bad) / float64(got.Total)},
					figure{recorded(a.Name, "short"), int(m) + 1, float64(short.Bad) / float64(short.Total)}, figure{recorded(a.Name, "burns"), int(m) + 1, burns})
			}
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return total, bad, all
}

// enough wants figures to compare, of which some are alerts that burn.
func enough(t *testing.T, all []figure, least int) {
	t.Helper()
	burned := 0
	for _, f := range all {
		if strings.HasSuffix(f.name, ":burns") && f.value == 1 {
			burned++
		}
	}
	if len(all) < least || burned < 10 {
		t.Fatalf("only %d figures to compare, %d that burn", len(all), burned)
	}
	t.Logf("%d figures, %d of them alerts that burn", len(all), burned)
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestPrometheusRules has Prometheus's own tests of rules, in promtool, expect what
// Serin says of random histories.
func TestPrometheusRules(t *testing.T) {
	promtool := prometheus(t, "promtool")
	c := newComparison()
	r := rand.New(rand.NewPCG(11, 12))
	var tests strings.Builder
	tests.WriteString("rule_files: [rules.yaml]\nevaluation_interval: 15m\ntests:\n")
	var figures []figure
	for range 2 {
		total, bad, all := c.history(t, r)
		figures = append(figures, all...)
		series := func(values []int) string { return strings.Trim(strings.ReplaceAll(fmt.Sprint(values), "[", "_ "), "]") } // the sample of a minute is at its end
		fmt.Fprintf(&tests, "- interval: 1m\n  input_series:\n  - {series: total, values: '%s'}\n  - {series: bad, values: '%s'}\n  promql_expr_test:\n", series(total), series(bad))
		for _, f := range all {
			fmt.Fprintf(&tests, "  - expr: %s\n    eval_time: %dm\n    exp_samples: [{labels: '%s', value: %.17g}]\n", f.name, f.minute, f.name, f.value)
		}
	}
	enough(t, figures, 1000)
	dir := t.TempDir()
	write(t, filepath.Join(dir, "rules.yaml"), c.rules)
	write(t, filepath.Join(dir, "test.yaml"), tests.String())
	cmd := exec.CommandContext(t.Context(), promtool, "test", "rules", "test.yaml")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("Prometheus says otherwise: %v\n%s", err, out[:min(len(out), 4000)])
	}
}

// TestPrometheusServer has a running Prometheus hold a random history, and record its
// rules over it, and asks it for what Serin says.
func TestPrometheusServer(t *testing.T) {
	promtool, server := prometheus(t, "promtool"), prometheus(t, "prometheus")
	c := newComparison()
	total, bad, all := c.history(t, rand.New(rand.NewPCG(13, 14)))
	enough(t, all, 500)
	end := func(minute int) int64 { return (int64(start) + int64(minute)) * 60 } // Unix s
	var samples strings.Builder
	for _, s := range []struct {
		name   string
		values []int
	}{{"total", total}, {"bad", bad}} {
		fmt.Fprintf(&samples, "# TYPE %s gauge\n", s.name)
		for m, n := range s.values {
			fmt.Fprintf(&samples, "%s %d %d\n", s.name, n, end(m+1))
		}
	}
	samples.WriteString("# EOF\n")
	dir := t.TempDir()
	data := filepath.Join(dir, "data")
	write(t, filepath.Join(dir, "samples"), samples.String())
	write(t, filepath.Join(dir, "rules.yaml"), c.rules)
	write(t, filepath.Join(dir, "prometheus.yaml"), "")
	run := func(args ...string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), promtool, append([]string{"tsdb", "create-blocks-from"}, args...)...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("promtool %s: %v\n%s", args[0], err, out)
		}
	}
	run("openmetrics", "samples", data)
	first := startPrometheus(t, server, dir, data)
	// It writes what the rules record, asking the server for what they are made of.
	run("rules", "--url", first.url, "--start", fmt.Sprint(end(3*1440)), "--end", fmt.Sprint(end(len(total)+1)), "--eval-interval", "1m", "--output-dir", data, "rules.yaml")
	first.stop()
	second := startPrometheus(t, server, dir, data)
	names := map[string]map[int64]float64{}
	for _, f := range all {
		if names[f.name] == nil {
			names[f.name] = second.series(t, f.name, end(3*1440), end(len(total)))
		}
		got, ok := names[f.name][end(f.minute)]
		if same := got == f.value || math.IsNaN(got) && math.IsNaN(f.value); !ok || !same {
			t.Errorf("%s after %d minutes: Prometheus has %v (%v), Serin %v", f.name, f.minute, got, ok, f.value)
		}
	}
}

// running is a Prometheus.
type running struct {
	url  string
	stop func()
}

func startPrometheus(t *testing.T, program, dir, data string) running {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cmd := exec.CommandContext(ctx, program, "--config.file", filepath.Join(dir, "prometheus.yaml"), "--storage.tsdb.path", data, "--storage.tsdb.retention.time", "100y", "--web.listen-address", address)
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	r := running{url: "http://" + address, stop: func() { cancel(); _ = cmd.Wait() }}
	t.Cleanup(r.stop)
	for range 600 {
		if res, err := http.Get(r.url + "/-/ready"); err == nil {
			res.Body.Close()
			if res.StatusCode == http.StatusOK {
				return r
			}
		}
		time.Sleep(50 * time.Millisecond)
	}
	r.stop()
	t.Fatalf("Prometheus does not become ready:\n%s", out.String())
	return r
}

// series returns the samples of a series each quarter of an hour, by the quarter's end
// in Unix s, within a minute after which they were recorded.
func (r running) series(t *testing.T, name string, from, to int64) map[int64]float64 {
	t.Helper()
	q := url.Values{"query": {name}, "start": {fmt.Sprint(from + 59)}, "end": {fmt.Sprint(to + 59)}, "step": {"15m"}}
	res, err := http.Get(r.url + "/api/v1/query_range?" + q.Encode())
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var answer struct {
		Error string
		Data  struct {
			Result []struct{ Values [][2]any }
		}
	}
	if err := json.NewDecoder(res.Body).Decode(&answer); err != nil || len(answer.Data.Result) != 1 {
		t.Fatalf("%s: %v %+v", name, err, answer)
	}
	all := map[int64]float64{}
	for _, v := range answer.Data.Result[0].Values {
		at, ok := v[0].(float64)
		text, _ := v[1].(string)
		value, err := strconv.ParseFloat(text, 64)
		if !ok || err != nil {
			t.Fatalf("%s: %v", name, v)
		}
		all[int64(at)-59] = value
	}
	return all
}
