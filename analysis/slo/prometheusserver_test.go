package slo

import (
	"bytes"
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

// prometheus is a server over the blocks of a directory.
type prometheus struct {
	url string
	cmd *exec.Cmd
	out bytes.Buffer
}

func startPrometheus(t *testing.T, dir string) *prometheus {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	config := filepath.Join(dir, "prometheus.yaml")
	if err := os.WriteFile(config, []byte("global: {}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := &prometheus{url: "http://" + address}
	p.cmd = exec.Command(tool(t, "prometheus"), "--config.file="+config, "--storage.tsdb.path="+filepath.Join(dir, "data"),
		"--storage.tsdb.retention.time=100y", "--web.listen-address="+address)
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.out
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.stop)
	for range 600 {
		if res, err := http.Get(p.url + "/-/ready"); err == nil {
			res.Body.Close()
			if res.StatusCode == http.StatusOK {
				return p
			}
		}
		time.Sleep(50 * time.Millisecond)
	}
	p.stop()
	t.Fatalf("Prometheus did not become ready:\n%s", p.out.String())
	return nil
}

// stop ends the server, once.
func (p *prometheus) stop() {
	if p.cmd.ProcessState == nil {
		_ = p.cmd.Process.Signal(os.Interrupt)
		_ = p.cmd.Wait() // it ends as it was told to
	}
}

// figures returns a series by history and time, over a range.
func (p *prometheus) figures(t *testing.T, query string, from, to time.Time, step time.Duration) map[string]map[int64]float64 {
	t.Helper()
	res, err := http.PostForm(p.url+"/api/v1/query_range", url.Values{"query": {query}, "step": {step.String()},
		"start": {from.Format(time.RFC3339Nano)}, "end": {to.Format(time.RFC3339Nano)}})
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var body struct {
		Status, Error string
		Data          struct {
			Result []struct {
				Metric struct{ History string }
				Values [][2]any
			}
		}
	}
	if err := json.NewDecoder(res.Body).Decode(&body); err != nil || body.Status != "success" {
		t.Fatalf("%s: %s %s %v", query, res.Status, body.Error, err)
	}
	all := map[string]map[int64]float64{}
	for _, r := range body.Data.Result {
		at := map[int64]float64{}
		for _, v := range r.Values {
			x, err := strconv.ParseFloat(v[1].(string), 64)
			if err != nil {
				t.Fatal(err)
			}
			at[int64(math.Floor(v[0].(float64)))] = x
		}
		all[r.Metric.History] = at
	}
	return all
}

// TestPrometheusServer compares budgets, burn rates and what burns with what a running
// Prometheus records of the same random histories, kept as counters, as services have
// them.
func TestPrometheusServer(t *testing.T) {
	promtool := tool(t, "promtool")
	tool(t, "prometheus")
	const day = 1440
	const histories, length, compare = 3, 16 * day, 2 * day
	o := testObjective(0.99)
	o.Window.Count = 14
	o.Alerts = Defaults(o.Target, o.Window.Period(), 0)[:4]
	o.MinUnits, o.MinClients = 0, 1

	var rules strings.Builder
	rules.WriteString("groups:\n- name: slo\n  interval: 1m\n  rules:\n")
	var names []string
	record := func(name, expr string) {
		fmt.Fprintf(&rules, "  - record: slo:%s\n    expr: %s\n", name, expr)
		names = append(names, name)
	}
	in := func(counter string, d time.Duration) string {
		return fmt.Sprintf("(%[1]s - %[1]s offset %[2]dm)", counter, d/time.Minute)
	}
	budget := fmt.Sprintf("%.17g", o.Budget())
	period := o.Window.Period()
	record("budget:total", in("requests_total", period))
	record("budget:bad", in("failures_total", period))
	record("budget:remaining", "1 - "+in("failures_total", period)+" / ("+budget+" * "+in("requests_total", period)+")")
	for i, a := range o.Alerts {
		if a.Form != FormBurn {
			t.Fatalf("alert %s is of form %s, which the rules are not for", a.Name, a.Form)
		}
		burn := func(d time.Duration) string {
			return "(" + in("failures_total", d) + " / " + in("requests_total", d) + " / " + budget + ")"
		}
		record(fmt.Sprintf("long:%d", i), burn(a.Long))
		record(fmt.Sprintf("short:%d", i), burn(a.Short))
		record(fmt.Sprintf("burns:%d", i), fmt.Sprintf("(%s >= bool %.17g) * (%s >= bool %.17g)", burn(a.Long), a.Threshold, burn(a.Short), a.Threshold))
	}

	// What Serin says, by name, history and second.
	said := map[string]map[string]map[int64]float64{}
	say := func(name, history string, at int64, x float64) {
		if said[name] == nil {
			said[name] = map[string]map[int64]float64{}
		}
		if said[name][history] == nil {
			said[name][history] = map[int64]float64{}
		}
		said[name][history][at] = x
	}
	r := rand.New(rand.NewPCG(13, 14))
	var requests, failures strings.Builder
	burned, empty := 0, 0
	for h := range histories {
		history := fmt.Sprint(h)
		b := NewBook(o, 0)
		b.Cohorts = append(b.Cohorts, &Cohort{})
		total, bad := int64(0), int64(0)
		sample := func(end int32) { // a counter's sample of a minute is at its end
			fmt.Fprintf(&requests, "requests_total{history=%q} %d %d\n", history, total, int64(end)*60)
			fmt.Fprintf(&failures, "failures_total{history=%q} %d %d\n", history, bad, int64(end)*60)
		}
		sample(start)
		p, rate := 0.01, 6.0
		for m := range int32(length) {
			if r.IntN(200) == 0 {
				p = []float64{0, 0.001, 0.01, 0.02, 0.05, 0.3, 0.9}[r.IntN(7)]
			}
			if r.IntN(300) == 0 {
				rate = []float64{0, 0.1, 1, 6, 40}[r.IntN(5)]
			}
			n, k := int64(0), int64(0)
			if rate > 0 {
				n = int64(poisson(r, rate))
			}
			for range n {
				if r.Float64() < p {
					k++
				}
			}
			total, bad = total+n, bad+k
			at := start + m
			sample(at + 1)
			b.Advance(int64(at) * 60_000)
			if n > 0 {
				b.All.Units.Add(at, Counts{n, k, k})
				b.All.failing(uint64(m), at, 1)
			}
			// What begins over a day ago is kept by quarters, on which these end.
			if m < length-compare || (m+1)%quarter != 0 {
				continue
			}
			end := int64(at+1) * 60
			err := b.Evaluate("t", Question{At: end * 1000}, func(s *verdict.SLOState) {
				say("budget:total", history, end, float64(s.Budget.Total))
				say("budget:bad", history, end, float64(s.Budget.Bad))
				say("budget:remaining", history, end, float64(s.Budget.Remaining))
				for i, a := range o.Alerts {
					got := &s.Alerts[i]
					burns := 0.0
					if float64(got.LongRate) >= a.Threshold && float64(got.ShortRate) >= a.Threshold {
						burns = 1
						burned++
					}
					if math.IsNaN(float64(got.ShortRate)) {
						empty++
					}
					say(fmt.Sprintf("long:%d", i), history, end, float64(got.LongRate))
					say(fmt.Sprintf("short:%d", i), history, end, float64(got.ShortRate))
					say(fmt.Sprintf("burns:%d", i), history, end, burns)
				}
			})
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	if burned < 20 || empty < 20 {
		t.Fatalf("%d alerts burn and %d windows are empty: too few to compare", burned, empty)
	}

	dir := t.TempDir()
	for name, text := range map[string]string{"rules.yaml": rules.String(),
		"history.txt": "# TYPE requests counter\n" + requests.String() + "# TYPE failures counter\n" + failures.String() + "# EOF\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	run := func(args ...string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), promtool, append([]string{"tsdb", "create-blocks-from"}, args...)...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("promtool %s: %v\n%s", args[0], err, out[:min(len(out), 4000)])
		}
	}
	run("openmetrics", "--max-block-duration=720h", "history.txt", "data")
	p := startPrometheus(t, dir)
	from, to := time.Unix(int64(start+length-compare)*60, 0).UTC(), time.Unix(int64(start+length)*60, 0).UTC()
	run("rules", "--url="+p.url, "--start="+from.Format(time.RFC3339), "--end="+to.Add(2*time.Minute).Format(time.RFC3339), "--output-dir=data", "rules.yaml")
	p.stop() // blocks that come while it runs are seen in time, and at a start at once
	p = startPrometheus(t, dir)

	// Rules are evaluated once a minute, at a second that Prometheus chooses: the last
	// one of the minute that begins with ours has what was counted until it began.
	const last = 59 * time.Second
	compared, wrong := 0, 0
	for _, name := range names {
		recorded := p.figures(t, "slo:"+name, from.Add(quarter*time.Minute+last), to.Add(last), quarter*time.Minute)
		for history, figures := range said[name] {
			for at, want := range figures {
				got, ok := recorded[history][at+int64(last/time.Second)]
				compared++
				same := got == want || math.Abs(got-want) <= 1e-12*math.Abs(want) || math.IsNaN(got) && math.IsNaN(want)
				if !ok || !same {
					if wrong++; wrong <= 10 {
						t.Errorf("%s of history %s at %s: Serin says %v, Prometheus %v (recorded: %v)", name, history, time.Unix(at, 0).UTC().Format(time.RFC3339), want, got, ok)
					}
				}
			}
		}
	}
	if want := len(names) * histories * compare / quarter; compared != want {
		t.Errorf("%d figures compared, want %d", compared, want)
	}
	if wrong > 0 {
		t.Fatalf("%d of %d figures are not Prometheus's", wrong, compared)
	}
	t.Logf("%d figures are Prometheus's too: %d alerts that burn, %d windows with nothing in them", compared, burned, empty)
}
