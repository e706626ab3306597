package alert

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"serin.dev/serin/analysis/verdict"
)

var epoch = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

func minute(n int) time.Time { return epoch.Add(time.Duration(n) * time.Minute) }

// burn is an alert of a threshold of 10 whose both windows burn at a rate.
func burn(name, severity string, rate float64) verdict.Burn {
	return verdict.Burn{Name: name, Severity: severity, Form: "burn", Threshold: 10, Long: "1h0m0s", Short: "5m0s", LongRate: verdict.Bound(rate), ShortRate: verdict.Bound(rate),
		Burning: rate >= 10, WhenBreaching: true, WhenResolved: true}
}

func state(at int, burns ...verdict.Burn) *verdict.SLOState {
	return &verdict.SLOState{Version: 1, Tenant: "shop", SLO: "checkout", Service: "web", App: "shop-web", At: minute(at), DataThrough: minute(at), Alerts: burns}
}

var nan = math.NaN()

// TestPhases runs one alert through evaluations of one a minute and compares its
// phase after each: i idle, p pending, f firing.
func TestPhases(t *testing.T) {
	policy := Policy{Evaluations: 3, KeepFiring: 4 * time.Minute, Reopen: 10 * time.Minute, Forget: time.Hour}
	const fault = -1 // the analysis is behind
	for name, c := range map[string]struct {
		after string
		rates []float64
		want  string
	}{
		"it fires at the threshold and not below":                  {"", []float64{9.99, 10}, "if"},
		"it is pending for as long as it must burn":                {"3m0s", []float64{12, 12, 12, 12}, "pppf"},
		"what stops while it is pending never fired":               {"3m0s", []float64{12, 12, 9, 12, 12, 12, 12}, "ppipppf"},
		"three calm evaluations end it, and four minutes":          {"", []float64{12, 1, 1, 1, 1, 1}, "ffffii"},
		"between 0.8 of the threshold and it nothing ends":         {"", []float64{12, 9, 9, 9, 9, 9, 8.1, 8}, "ffffffff"},
		"a warm evaluation begins the count of calm ones anew":     {"", []float64{12, 1, 1, 9, 1, 1, 1}, "ffffffi"},
		"it may fire again only after a while":                     {"", []float64{12, 1, 1, 1, 1, 12, 12, 12, 12, 12, 12, 12, 12, 12, 12}, "ffffipppppppppf"},
		"what is not counted says nothing":                         {"", []float64{12, nan, nan, nan, nan, nan, nan, 1, 1, 1}, "fffffffffi"},
		"an analysis that is behind ends nothing":                  {"", []float64{12, fault, fault, fault, fault, fault, fault, 1, 1, 1}, "fffffffffi"},
		"nor does it end what is pending, which fires when it can": {"3m0s", []float64{12, nan, nan, 12, 12}, "pppff"},
	} {
		t.Run(name, func(t *testing.T) {
			b := New(policy, nil)
			var got string
			for i, r := range c.rates {
				u := burn("page", verdict.SeverityPage, r)
				u.After = c.after
				s := state(i, u)
				if r == fault {
					s.Data = verdict.PipelineFault
				}
				b.Observe(s)
				phase := Idle
				if in := b.incidents[Key{Tenant: "shop", SLO: "checkout"}]; in != nil && len(in.Alerts) > 0 {
					phase = in.Alerts[0].Phase
				}
				got += phase.String()[:1]
			}
			if got != c.want {
				t.Errorf("rates %v: phases %s, want %s", c.rates, got, c.want)
			}
		})
	}
}

// TestMissed has nobody take the message of an opening: while the incident is open it
// is told again, and one that ended is not.
func TestMissed(t *testing.T) {
	b := New(Policy{Evaluations: 1, KeepFiring: time.Minute, Forget: time.Hour}, []Target{{Tenant: "shop", Name: "chat"}})
	b.Observe(state(0, burn("page", verdict.SeverityPage, 12)))
	first := b.Tell(minute(0))
	if len(first) != 1 || len(b.Tell(minute(1))) != 0 {
		t.Fatalf("told %v", first)
	}
	b.Missed(first[0].ID)
	b.Missed("unknown")
	again := b.Tell(minute(2))
	if len(again) != 1 || again[0].ID == first[0].ID || again[0].Items[0].Event != Opened || again[0].Items[0].Number != 1 {
		t.Fatalf("told %+v", again)
	}
	b.Observe(state(3, burn("page", verdict.SeverityPage, 1)))
	b.Observe(state(5, burn("page", verdict.SeverityPage, 1)))
	if ended := b.Tell(minute(5)); len(ended) != 1 || ended[0].Items[0].Event != Resolved {
		t.Fatalf("told %+v", ended)
	}
	b.Missed(again[0].ID)
	if ns := b.Tell(minute(6)); len(ns) != 0 || len(b.Waiting("shop", "chat")) != 1 {
		t.Errorf("told %+v, waiting %+v", ns, b.Waiting("shop", "chat"))
	}
}

func TestForget(t *testing.T) {
	b := New(Policy{Forget: time.Hour}, []Target{{Tenant: "shop", Name: "chat"}})
	b.Observe(state(0, burn("page", verdict.SeverityPage, 12)))
	if ns := b.Tell(minute(0)); len(ns) != 1 {
		t.Fatalf("told %v", ns)
	}
	// The objective is evaluated no more.
	if ns := b.Tell(minute(59)); len(ns) != 0 {
		t.Fatalf("told %v", ns)
	}
	ns := b.Tell(minute(60))
	if len(ns) != 1 || ns[0].Items[0].Event != Resolved || !ns[0].Items[0].ResolvedAt.Equal(minute(60)) {
		t.Fatalf("told %+v", ns)
	}
	b.Tell(minute(90))
	if len(b.incidents) != 0 {
		t.Error("what is long over is kept")
	}
}

// TestTrickleEnds has evidence that is kept, as a sequential test keeps it: that
// it burns no more is what ends the alert.
func TestTrickleEnds(t *testing.T) {
	b := New(Policy{Evaluations: 2, KeepFiring: time.Minute}, nil)
	u := verdict.Burn{Name: "trickle", Severity: verdict.SeverityPage, Form: "trickle", Threshold: 14, LongRate: 200, ShortRate: verdict.Bound(nan), WhenBreaching: true}
	for i, burning := range []bool{true, false, false} {
		u.Burning = burning
		b.Observe(state(i, u))
	}
	if in := b.incidents[Key{Tenant: "shop", SLO: "checkout"}]; in.Severity != "" {
		t.Errorf("it is still open: %+v", in)
	}
}

func TestSeverityIsTheHighest(t *testing.T) {
	targets := []Target{{Tenant: "shop", Name: "chat"}, {Tenant: "shop", Name: "pager", Least: verdict.SeverityPage, Holds: true}}
	b := New(Policy{Evaluations: 1, KeepFiring: time.Minute, Group: time.Nanosecond}, targets)
	var got []string
	for i, rates := range [][2]float64{{1, 12}, {12, 12}, {12, 12}, {1, 12}, {1, 1}} {
		b.Observe(state(i, burn("fast", verdict.SeverityPage, rates[0]), burn("slow", verdict.SeverityTicket, rates[1])))
		for _, n := range b.Tell(minute(i)) {
			for _, it := range n.Items {
				got = append(got, fmt.Sprintf("%d %s %s %s<%s", i, n.Target, it.Event, it.Severity, it.Was))
			}
		}
	}
	want := []string{"0 chat opened ticket<", "1 chat changed page<ticket", "1 pager opened page<", "3 chat changed ticket<page", "3 pager resolved page<page", "4 chat resolved ticket<ticket"}
	if !slices.Equal(got, want) {
		t.Errorf("told\n%q, want\n%q", got, want)
	}
}

func TestNoData(t *testing.T) {
	b := New(Policy{NoData: 3 * time.Minute, Evaluations: 1, KeepFiring: time.Minute}, []Target{{Tenant: "shop", Name: "chat"}})
	u := burn("fast", verdict.SeverityPage, nan)
	u.WhenNoData = true
	var got []string
	for i, d := range []verdict.Data{verdict.DataOK, verdict.Uninstrumented, verdict.Uninstrumented, verdict.PipelineFault, verdict.Uninstrumented, verdict.PipelineFault, verdict.DataOK} {
		s := state(i, u)
		s.Data = d
		b.Observe(s)
		for _, n := range b.Tell(minute(i)) {
			got = append(got, fmt.Sprintf("%d %s %s %s", i, n.Items[0].Event, n.Items[0].Severity, n.Items[0].Alerts[0].Name))
		}
	}
	if want := []string{"4 opened page instrumentation_lost", "6 resolved page instrumentation_lost"}; !slices.Equal(got, want) {
		t.Errorf("told %q, want %q", got, want)
	}
	u.WhenNoData = false
	b = New(Policy{NoData: time.Minute}, nil)
	for i := range 5 {
		s := state(i, u)
		s.Data = verdict.NoTraffic
		b.Observe(s)
	}
	if len(b.incidents) != 0 {
		t.Error("nobody asked for an alert on missing data, and there is one")
	}
}

// TestGroups has three cohorts of one objective: one message to who reads, one
// each to who holds incidents.
func TestGroups(t *testing.T) {
	b := New(Policy{Group: 5 * time.Minute}, []Target{{Tenant: "shop", Name: "chat"}, {Tenant: "shop", Name: "pager", Holds: true}, {Tenant: "other", Name: "chat"}})
	see := func(at int, cohort, severity string) {
		s := state(at, burn("a", severity, 12))
		s.Group = cohort
		b.Observe(s)
	}
	see(0, "2.4.0", verdict.SeverityTicket)
	see(0, "2.4.1", verdict.SeverityTicket)
	counts := func(ns []Notification) (got []string) {
		for _, n := range ns {
			got = append(got, fmt.Sprintf("%s:%d", n.Target, len(n.Items)))
		}
		return got
	}
	if got := counts(b.Tell(minute(0))); !slices.Equal(got, []string{"chat:2", "pager:1", "pager:1"}) {
		t.Errorf("told %q", got)
	}
	see(1, "2.4.2", verdict.SeverityTicket)
	if got := counts(b.Tell(minute(1))); !slices.Equal(got, []string{"pager:1"}) {
		t.Errorf("a minute later told %q, want only who holds: the group waits", got)
	}
	see(2, "2.4.3", verdict.SeverityPage)
	if got := counts(b.Tell(minute(2))); !slices.Equal(got, []string{"chat:2", "pager:1"}) {
		t.Errorf("with a page told %q, want that it does not wait, and what waited comes with it", got)
	}
}

func TestRouting(t *testing.T) {
	targets := []Target{{Tenant: "shop", Name: "a"}, {Tenant: "shop", Name: "b"}}
	for name, c := range map[string]struct{ names, want []string }{
		"none named: all":        {nil, []string{"a", "b"}},
		"one named":              {[]string{"b"}, []string{"b"}},
		"one that is not there":  {[]string{"b", "c"}, []string{"b"}},
		"none of them is there ": {[]string{"c"}, []string{"a", "b"}},
	} {
		b := New(Policy{}, targets)
		u := burn("x", "page", 12)
		u.Targets = c.names
		b.Observe(state(0, u))
		var got []string
		for _, n := range b.Tell(minute(0)) {
			got = append(got, n.Target)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: told %v, want %v", name, got, c.want)
		}
	}
}

// history is a random one: rates that wander around the threshold, of two alerts of
// three cohorts, with gaps, silences, a change of who is told, and restarts.
type history struct {
	seed     uint64
	length   int // minutes
	silences bool
	restarts bool
}

var historyTargets = []Target{{Tenant: "shop", Name: "chat"}, {Tenant: "shop", Name: "pager", Least: "page", Holds: true}, {Tenant: "shop", Name: "am", Level: true}}

var historyPolicy = Policy{KeepFiring: 2 * time.Minute, Evaluations: 2, Reopen: 10 * time.Minute, NoData: 3 * time.Minute, Group: 2 * time.Minute, Forget: 2 * time.Hour}

// play returns all that was told, and the incidents at each minute. All is calm in
// the last part.
func (h history) play(t *testing.T) (told []Notification, machine []string, b *Book) {
	b = New(historyPolicy, historyTargets)
	r := rand.New(rand.NewPCG(h.seed, 1))
	events := rand.New(rand.NewPCG(h.seed, 2)) // so that both kinds of history see the same rates
	level := map[string]float64{}
	const settle = 40
	for i := range h.length {
		for _, cohort := range []string{"", "2.4.0", "2.4.1"} {
			var burns []verdict.Burn
			for j, severity := range []string{"page", "ticket"} {
				k := cohort + severity
				level[k] = min(max(level[k]+r.NormFloat64()*4, 0), 16)
				rate := level[k]
				if i >= h.length-settle {
					rate = 0
				}
				u := burn(severity, severity, rate)
				u.After = []string{"", "2m0s"}[j]
				u.WhenNoData = j == 0
				burns = append(burns, u)
			}
			s := state(i, burns...)
			s.Group = cohort
			if i < h.length-settle {
				s.Data = []verdict.Data{0, 0, 0, 0, 0, 0, verdict.NoTraffic, verdict.PipelineFault}[r.IntN(8)]
			}
			if r.IntN(20) > 0 {
				b.Observe(s)
			}
		}
		if h.silences && events.IntN(15) == 0 && i < h.length-settle {
			label := []Matcher{{Label: "slo", Op: "=", Value: "checkout"}, {Label: "cohort", Op: "=~", Value: "2\\..*"}, {Label: "severity", Op: "=", Value: "ticket"}}[events.IntN(3)]
			if _, err := b.Silence(Silence{Tenant: "shop", Matchers: []Matcher{label}, End: minute(i + 1 + events.IntN(12)), Who: "x", Why: "y"}, minute(i)); err != nil {
				t.Fatal(err)
			}
		}
		news := b.Tell(minute(i))
		told = append(told, news...)
		for _, n := range news {
			b.Done(n.ID)
		}
		for _, it := range b.Level("shop", "am") {
			told = append(told, Notification{Target: "am", At: minute(i), Items: []Item{it}})
		}
		var now []string
		for _, in := range b.sorted() {
			now = append(now, fmt.Sprint(in.Key, in.Number, in.Severity, in.Opened, in.Resolved))
		}
		machine = append(machine, fmt.Sprint(now))
		if h.restarts && events.IntN(7) == 0 {
			data, err := b.Snapshot()
			if err != nil {
				t.Fatal(err)
			}
			b = New(historyPolicy, historyTargets)
			if err := b.Restore(data); err != nil {
				t.Fatal(err)
			}
		}
	}
	return told, machine, b
}

// TestHistories holds over random histories what whoever is told relies on.
func TestHistories(t *testing.T) {
	opens := 0
	for seed := range uint64(24) {
		h := history{seed: seed, length: 400, silences: seed%2 == 0, restarts: true}
		told, machine, b := h.play(t)
		type of struct {
			target string
			key    Key
		}
		open, opened := map[of]*Item{}, map[of]int{}
		ids := map[string]bool{}
		lastAt := map[string]time.Time{}
		for _, n := range told {
			if n.Target == "am" {
				continue
			}
			if ids[n.ID] {
				t.Fatalf("seed %d: message %s twice", seed, n.ID)
			}
			ids[n.ID] = true
			rising := false
			for _, it := range n.Items {
				k := of{n.Target, it.Key}
				was := open[k]
				switch it.Event {
				case Opened:
					if was != nil {
						t.Fatalf("seed %d: %v was opened twice", seed, k)
					}
					opened[k]++
					opens++
					rising = rising || it.Severity == "page"
					open[k] = &it
				case Changed:
					if was == nil || was.Severity == it.Severity || was.Severity != it.Was || was.Number != it.Number {
						t.Fatalf("seed %d: %v changed from %+v to %+v", seed, k, was, it)
					}
					rising = rising || it.Severity == "page"
					open[k] = &it
				case Resolved:
					if was == nil || was.Number != it.Number || was.Severity != it.Severity || it.ResolvedAt.Before(was.OpenedAt) {
						t.Fatalf("seed %d: %v was resolved as %+v after %+v", seed, k, it, was)
					}
					delete(open, k)
				}
				if k.target == "pager" && it.Event != Resolved && it.Severity != "page" {
					t.Fatalf("seed %d: the pager was told of a %s", seed, it.Severity)
				}
			}
			if n.Target == "chat" {
				if last, ok := lastAt[n.SLO]; ok && !rising && n.At.Sub(last) < historyPolicy.Group {
					t.Fatalf("seed %d: messages at %v and %v", seed, last, n.At)
				}
				lastAt[n.SLO] = n.At
			}
		}
		for k := range open {
			t.Errorf("seed %d: %v was opened and never resolved", seed, k)
		}
		// An alert may fire once in Reopen; of three alerts (page, ticket, and one on
		// missing data) each can open the incident. A silence that ends opens it again
		// for nobody.
		most := 3 * (1 + h.length/int(historyPolicy.Reopen/time.Minute))
		for k, n := range opened {
			if n > most {
				t.Errorf("seed %d: %v was opened %d times in %d minutes, want at most %d", seed, k, n, h.length, most)
			}
		}
		// What is told again and again is one span after the other.
		spans := map[string]time.Time{}
		for _, n := range told {
			if n.Target == "am" && n.Items[0].Event == Resolved {
				it := n.Items[0]
				k := fmt.Sprint(it.Key, it.Severity, it.Since)
				if until, ok := spans[k]; ok && !until.Equal(it.ResolvedAt) {
					t.Fatalf("seed %d: %s ended at %v and at %v", seed, k, until, it.ResolvedAt)
				}
				spans[k] = it.ResolvedAt
			}
		}
		if got := b.Level("shop", "am"); slices.ContainsFunc(got, func(it Item) bool { return it.Event != Resolved }) {
			t.Errorf("seed %d: still told as open: %+v", seed, got)
		}
		// A silence and a restart change no incident.
		_, plain, _ := history{seed: seed, length: h.length}.play(t)
		if !slices.Equal(plain, machine) {
			t.Errorf("seed %d: silences or restarts changed incidents", seed)
		}
	}
	if opens < 150 {
		t.Errorf("only %d incidents were told of: the histories are too calm", opens)
	}
}

// TestFlapping has the worst that one alert can do.
func TestFlapping(t *testing.T) {
	p := Policy{Evaluations: 1, KeepFiring: time.Nanosecond, Reopen: 10 * time.Minute}
	b := New(p, []Target{{Tenant: "shop", Name: "pager", Holds: true}})
	opened := 0
	for i := range 600 {
		b.Observe(state(i, burn("page", "page", float64(i%2)*20)))
		for _, n := range b.Tell(minute(i)) {
			if n.Items[0].Event == Opened {
				opened++
			}
		}
	}
	if opened < 30 || opened > 60 {
		t.Errorf("opened %d times in 600 minutes, want up to one in 10 minutes", opened)
	}
}

func TestRestoreRefuses(t *testing.T) {
	good := New(Policy{}, nil)
	good.Observe(state(0, burn("a", "page", 12)))
	for _, text := range []string{"", "{}", `{"v":2}`, `{"v":1,"incidents":[null]}`, `{"v":1,"silences":[{"matchers":[{"label":"slo","op":"=~","value":"("}]}]}`, `{"v":1,"silences":[null]}`,
		`{"v":1,"incidents":[{"tenant":"t","slo":"s"},{"tenant":"t","slo":"s"}]}`} {
		if err := good.Restore([]byte(text)); err == nil {
			t.Errorf("%q was read", text)
		}
	}
	if len(good.incidents) != 1 {
		t.Error("what was refused changed the book")
	}
}

func FuzzRestore(f *testing.F) {
	_, _, b := history{seed: 1, length: 60, silences: true}.play(&testing.T{})
	data, err := b.Snapshot()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte(`{"v":1}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		b := New(historyPolicy, historyTargets)
		if b.Restore(data) != nil {
			return
		}
		b.Observe(state(0, burn("page", "page", 12)))
		b.Tell(minute(1))
		again, err := b.Snapshot()
		if err != nil {
			return // a year past 9999, which JSON cannot have
		}
		if !json.Valid(again) {
			t.Fatalf("%s", again)
		}
	})
}

func BenchmarkObserveCalm(b *testing.B) {
	book := New(Policy{}, nil)
	s := state(0, burn("a", "page", 1), burn("b", "page", 1), burn("c", "ticket", 1))
	b.ReportAllocs()
	for b.Loop() {
		book.Observe(s)
	}
}
