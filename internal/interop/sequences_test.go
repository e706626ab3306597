package interop

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"testing"
	"time"

	"serin.dev/serin/alerting/alert"
	"serin.dev/serin/alerting/alertmanager"
	"serin.dev/serin/analysis/verdict"
)

// sequence is what a model knows of one objective's cohort: no more than the rules of
// docs/alerts.md.
type sequence struct {
	slo, cohort string
	burns       bool
	severity    string    // while it burns
	told        bool      // Alertmanager was told of what is open
	as          string    // with this severity
	since       time.Time // when Alertmanager first had it
}

const (
	objectives = 100
	cohorts    = 100
	rounds     = 10
)

// TestAlertmanagerSequences takes 10,000 random sequences of fire, tell again, change of
// severity, resolve and silence, of Serin's and of Alertmanager's own, through one real
// Alertmanager, and compares after each step what it has with a model: which alerts,
// with which severity, suppressed or not, and since when. In the end whoever was told of
// an alert was told of its end.
func TestAlertmanagerSequences(t *testing.T) {
	m := startAlertmanager(t)
	last := &lastTold{of: map[string]string{}}
	drained, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { last.drain(drained, m) })
	defer wg.Wait()
	defer stop()
	book := alert.New(alert.Policy{Evaluations: 1, KeepFiring: time.Millisecond, Reopen: time.Millisecond}, []alert.Target{{Tenant: "shop", Name: "am", Level: true}})
	target := alertmanager.Target{Tenant: "shop", URL: m.url, Client: http.DefaultClient}
	rng := rand.New(rand.NewPCG(3, 4))
	var all []*sequence
	for i := range objectives * cohorts {
		all = append(all, &sequence{slo: fmt.Sprintf("slo-%d", i/cohorts), cohort: fmt.Sprintf("c-%d", i%cohorts)})
	}
	silences := map[string]string{}  // Serin's, by objective: its id
	suppressed := map[string]bool{}  // objectives that Alertmanager silences
	ops := map[string]int{}          // how often each thing happened
	fingerprints := map[string]int{} // of alerts by labels; one each
	for round := range rounds {
		if round > 0 && round < rounds-1 {
			for k := range objectives {
				name := fmt.Sprintf("slo-%d", k)
				switch x := rng.IntN(20); {
				case x < 2 && silences[name] == "":
					s, err := book.Silence(alert.Silence{Tenant: "shop", Matchers: []alert.Matcher{{Label: "slo", Op: "=", Value: name}}, End: time.Now().Add(time.Hour), Who: "ann", Why: "a test"}, time.Now())
					if err != nil {
						t.Fatal(err)
					}
					silences[name] = s.ID
					ops["silence"]++
				case x < 8 && silences[name] != "":
					book.Unsilence("shop", silences[name], "ann", time.Now())
					delete(silences, name)
					ops["end of a silence"]++
				case x == 19 && !suppressed[name]:
					suppressed[name] = true
					post(t, m.url+"/api/v2/silences", fmt.Sprintf(`{"matchers":[{"name":"slo","value":%q,"isRegex":false,"isEqual":true}],"startsAt":%q,"endsAt":%q,"createdBy":"ann","comment":"x"}`,
						name, time.Now().Format(time.RFC3339Nano), time.Now().Add(time.Hour).Format(time.RFC3339Nano)))
					ops["silence of its own"]++
				}
			}
		}
		if round == rounds-1 {
			for name, id := range silences {
				book.Unsilence("shop", id, "ann", time.Now())
				delete(silences, name)
			}
		}
		now := time.Now()
		for _, q := range all {
			q.step(rng, round == rounds-1, ops)
			book.Observe(q.state(now))
			q.model(silences[q.slo] != "")
		}
		book.Tell(now)
		if err := target.Send(t.Context(), target.Alerts(book.Level("shop", "am"), now)); err != nil {
			t.Fatal(err)
		}
		compare(t, m, round, all, suppressed, fingerprints)
		if t.Failed() {
			return
		}
	}
	for _, op := range []string{"fire", "again", "severity", "resolve"} {
		if ops[op] < 5000 {
			t.Errorf("%s happened %d times only", op, ops[op])
		}
	}
	t.Logf("%d sequences of %d steps are as the model has them: %v; %d different alerts", len(all), rounds, ops, len(fingerprints))
	for i := 0; ; i++ {
		told, open := last.open(suppressed)
		if open == 0 && told > 1000 {
			t.Logf("%d alerts were told to the receiver, and the end of each", told)
			return
		}
		if i == 300 {
			t.Fatalf("of %d alerts that the receiver was told of, %d have no end", told, open)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// step takes a random step.
func (q *sequence) step(rng *rand.Rand, end bool, ops map[string]int) {
	switch x := rng.IntN(10); {
	case end:
		q.burns = false
	case !q.burns && x < 4:
		q.burns, q.severity = true, []string{"page", "ticket"}[rng.IntN(2)]
		ops["fire"]++
	case q.burns && x < 3:
		q.burns = false
		ops["resolve"]++
	case q.burns && x < 5:
		q.severity = map[string]string{"page": "ticket", "ticket": "page"}[q.severity]
		ops["severity"]++
	case q.burns:
		ops["again"]++
	}
}

// state is what the analysis says of it.
func (q *sequence) state(now time.Time) *verdict.SLOState {
	burn := func(name, severity string) verdict.Burn {
		rate := 0.0
		if q.burns && q.severity == severity {
			rate = 20
		}
		return verdict.Burn{Name: name, Severity: severity, Form: "burn", Threshold: 14.4, Long: "1h0m0s", Short: "5m0s", LongRate: verdict.Bound(rate), ShortRate: verdict.Bound(rate), Burning: rate > 0, WhenBreaching: true, WhenResolved: true}
	}
	return &verdict.SLOState{Version: 1, Tenant: "shop", SLO: q.slo, Group: q.cohort, Service: "web", App: "shop-web", At: now, DataThrough: now, Completeness: 1, Target: 0.99,
		Alerts: []verdict.Burn{burn("page-1h", "page"), burn("ticket-1d", "ticket")}, Sentence: "it burns"}
}

// model has what Alertmanager is to have of it: an opening and a change are not told
// while it is silenced; its end, and what was told before, are.
func (q *sequence) model(silenced bool) {
	switch {
	case !q.burns:
		q.told, q.since = false, time.Time{}
	case silenced && !q.told:
	case !q.told || !silenced && q.as != q.severity:
		q.told, q.as, q.since = true, q.severity, time.Time{}
	}
}

// compare lists what Alertmanager has and compares it with the model.
func compare(t *testing.T, m *manager, round int, all []*sequence, suppressed map[string]bool, fingerprints map[string]int) {
	t.Helper()
	has := map[string]listed{}
	for _, l := range m.list(t) {
		key := l.Labels["slo"] + " " + l.Labels["cohort"]
		if other, twice := has[key]; twice {
			t.Fatalf("round %d: %s is there as %s and as %s", round, key, other.Labels["severity"], l.Labels["severity"])
		}
		has[key] = l
		fingerprints[l.Fingerprint+" "+key+" "+l.Labels["severity"]]++
	}
	wrong := 0
	for _, q := range all {
		key := q.slo + " " + q.cohort
		l, there := has[key]
		delete(has, key)
		state := "active"
		if suppressed[q.slo] {
			state = "suppressed"
		}
		bad := there != q.told
		if there && q.told {
			// Alertmanager works out anew what is suppressed as it tells, and not at once
			// what is new.
			bad = l.Labels["severity"] != q.as || l.Status.State != state && l.Status.State != "unprocessed"
			if q.since.IsZero() {
				q.since = l.StartsAt
			}
			bad = bad || !l.StartsAt.Equal(q.since)
		}
		if bad {
			if wrong++; wrong <= 10 {
				t.Errorf("round %d: %s: there %v as %+v; model: burns %v, told %v as %s since %v, %s", round, key, there, l, q.burns, q.told, q.as, q.since, state)
			}
		}
	}
	if wrong > 0 || len(has) > 0 {
		t.Errorf("round %d: %d of %d are wrong, %d are of nobody", round, wrong, len(all), len(has))
	}
}

// lastTold is what Alertmanager's receiver was told last of each alert.
type lastTold struct {
	mu sync.Mutex
	of map[string]string
}

func (l *lastTold) drain(ctx context.Context, m *manager) {
	for {
		select {
		case <-ctx.Done():
			return
		case g := <-m.told:
			l.mu.Lock()
			for _, a := range g.Alerts {
				if a.Labels["alertname"] == alertmanager.BurnName {
					l.of[a.Labels["slo"]+" "+a.Labels["cohort"]+" "+a.Labels["severity"]] = a.Status
				}
			}
			l.mu.Unlock()
		}
	}
}

// open counts the alerts that were told, and those without an end; whom Alertmanager
// silences it tells no end.
func (l *lastTold) open(suppressed map[string]bool) (told, open int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for key, status := range l.of {
		var slo string
		fmt.Sscan(key, &slo)
		if suppressed[slo] {
			continue
		}
		told++
		if status != "resolved" {
			open++
		}
	}
	return told, open
}
