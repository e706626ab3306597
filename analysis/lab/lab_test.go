package lab

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"serin.dev/serin/analysis/canary"
	"serin.dev/serin/analysis/evalue"
	"serin.dev/serin/analysis/session"
	"serin.dev/serin/analysis/verdict"
)

// TestEnginesAgree gives both engines the same draws of each world.
func TestEnginesAgree(t *testing.T) {
	for _, name := range WorldNames() {
		w, err := findWorld(name)
		if err != nil {
			t.Fatal(err)
		}
		w.copied = [2]float64{} // which outcomes cannot see
		w.cells = 30
		var logs [2][]verdict.Verdict
		for k, e := range []engine{newOutcomes(), &beacons{}} {
			for seed := range uint64(2) {
				p := play{world: w, rng: rand.New(rand.NewPCG(seed, 1)), harmed: session.Errors, ratio: 1.3}
				p.run(e, w.rules(nil), func(test *canary.Test, now int64) bool {
					logs[k] = append(logs[k], ask(test, now))
					return true
				})
			}
		}
		if len(logs[0]) != 60 || len(logs[1]) != 60 {
			t.Fatalf("%s: %d and %d looks", name, len(logs[0]), len(logs[1]))
		}
		for i := range logs[0] {
			a, b := &logs[0][i], &logs[1][i]
			for m := range a.Findings {
				x, y := a.Findings[m], b.Findings[m]
				if x.Sessions != y.Sessions || x.Failures != y.Failures || math.Abs(float64(x.LogEHarm-y.LogEHarm)) > 1e-9 || math.Abs(float64(x.LogESafe-y.LogESafe)) > 1e-9 {
					t.Fatalf("%s, look %d: %+v by outcomes, %+v by beacons", name, i, x, y)
				}
			}
			if a.Decision != b.Decision || a.LogERatio != b.LogERatio {
				t.Fatalf("%s, look %d: %s by outcomes, %s by beacons", name, i, a.Sentence, b.Sentence)
			}
		}
	}
}

func options(rollouts int) Options { return Options{Seed: 1, Rollouts: rollouts} }

// TestWorkersDoNotMatter: what is found is a function of the seed.
func TestWorkersDoNotMatter(t *testing.T) {
	var rows []AARow
	for _, workers := range []int{1, 3} {
		o := options(2)
		o.Workers = workers
		e := AA{Options: o, Alpha: 0.01, Beta: 0.05, Worlds: []string{"ramp"}}
		r, err := e.Run(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		rows = append(rows, r...)
	}
	if rows[0] != rows[1] {
		t.Errorf("one worker: %+v\nthree: %+v", rows[0], rows[1])
	}
	o := options(2)
	o.Seed = 2
	e := AA{Options: o, Alpha: 0.01, Beta: 0.05, Worlds: []string{"ramp"}}
	other, err := e.Run(t.Context())
	if err != nil || other[0].Sessions == rows[0].Sessions {
		t.Errorf("another seed: %+v, %v", other, err)
	}
}

// TestErrorRates: rates that would be seen with probability below 0.001 at the
// bound fail. serin lab aa counts more.
func TestErrorRates(t *testing.T) {
	e := AA{Options: options(4), Alpha: 0.01, Beta: 0.05, Worlds: []string{"riskier-first", "daily"}}
	rows, err := e.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rows {
		if r.Failures < 500 || r.Looks != 96 {
			t.Errorf("%s: %.0f failures and %d looks: too little to err", r.World, r.Failures, r.Looks)
		}
		if 1-atMost(r.FalseRollbacks-1, r.Rollouts, e.Alpha) < 0.001 {
			t.Errorf("%s: %d of %d healthy rollouts are rolled back", r.World, r.FalseRollbacks, r.Rollouts)
		}
		if k := int(math.Round(r.FalsePromotionRate * float64(r.Rollouts))); 1-atMost(k-1, r.Rollouts, e.Beta) < 0.001 {
			t.Errorf("%s: %d of %d rollouts at the margin are promoted", r.World, k, r.Rollouts)
		}
	}
}

// TestSampleRatioOfUsersAndReports: neither sessions of users who have an arm
// each, nor reports of the day before, look like a sample ratio that is off. When
// each was an observation, more than a third of such rollouts were held for it.
func TestSampleRatioOfUsersAndReports(t *testing.T) {
	e := AA{Options: options(6), Alpha: 0.01, Beta: 0.05, Worlds: []string{"clustered", "next-morning"}}
	rows, err := e.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rows {
		if r.RatioAlarmRate > 0 {
			t.Errorf("%s: %v of the rollouts are held for the sample ratio", r.World, r.RatioAlarmRate)
		}
	}
}

func TestPower(t *testing.T) {
	e := Power{Options: options(5), Alpha: 0.01, Ratios: []float64{3}, Shares: []float64{50}, Rate: 0.02, Sessions: 400, Epoch: time.Minute, Rivals: true}
	rows, err := e.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	r := rows[0]
	if r.Power < 1 || r.OraclePower < 1 || !(r.OverWald > 0.4 && r.OverWald < 2.5) || !(r.OverOracle > 0.4 && r.OverOracle < 2.5) {
		t.Errorf("%+v", r)
	}
	// Wald's bound and the failures that Schoenfeld's formula plans, by hand: at
	// half and ratio 3 a failure is the canary's with 3/4; ln 100 / (3/4 ln 3 -
	// ln 2) and (2.3263+1.2816)^2 / (ln^2 3 / 4).
	if math.Abs(r.Wald-35.21) > 0.01 || r.FixedFailures != 44 {
		t.Errorf("%v failures by Wald's bound, %v for a fixed test", r.Wald, r.FixedFailures)
	}
}

func TestSilentIsFound(t *testing.T) {
	s := Silent{options(1)}
	for _, row := range []SilentRow{{Silence: noBeacon, Counted: true}, {Silence: "after the exposure"}} {
		found, at, err := s.count(t.Context(), "test", 0.1, row, 0.05)
		if err != nil || found != 1 {
			t.Errorf("%+v: found %d at %v, %v", row, found, at, err)
		}
		if found, _, err = s.count(t.Context(), "test", 0.1, row, 0); err != nil || found != 0 {
			t.Errorf("%+v, none lost: found %d, %v", row, found, err)
		}
	}
}

func TestForgedDecidesNothing(t *testing.T) {
	f := Forged{options(1)}
	rows, err := f.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rows {
		if r.Ratio == 1 && r.Rollback > 0 || r.Ratio > 1 && r.Promotion > 0 {
			t.Errorf("%+v", r)
		}
	}
}

func TestHeavySendersMoveNothing(t *testing.T) {
	h := Heavy{options(1)}
	rows, err := h.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if rows[0].Moved != 0 || rows[0].LogEMost != 0 {
		t.Errorf("repetitions moved a verdict: %+v", rows[0])
	}
	if rows[1].Moved != 0 || rows[1].LogEMost > 2 {
		t.Errorf("one user moved a verdict that counts users: %+v", rows[1])
	}
	if rows[2].LogEMost < 10 {
		t.Errorf("the heavy sender is not heavy: %+v", rows[2])
	}
}

func TestBrokenTenantIsCalled(t *testing.T) {
	e := Tenant{options(3)}
	r, err := e.row(t.Context(), miseries[1])
	if err != nil {
		t.Fatal(err)
	}
	if r.Named < 1 || r.Called < 1 || r.CalledMost > 20 || r.FDR > 0 {
		t.Errorf("%+v", r)
	}
}

// TestExact: intervals by hand (the k-th root for none of n), and of R's
// help(binom.test): 682 of 925 peas, 0.7076683 to 0.7654066.
func TestExact(t *testing.T) {
	for _, c := range []struct {
		k, n       int
		confidence float64
		lo, hi     float64
	}{
		{0, 10, 0.99, 0, 1 - math.Pow(0.005, 0.1)},
		{10, 10, 0.99, math.Pow(0.005, 0.1), 1},
		{682, 925, 0.95, 0.7076683, 0.7654066},
	} {
		if lo, hi := exact(c.k, c.n, c.confidence); math.Abs(lo-c.lo) > 5e-8 || math.Abs(hi-c.hi) > 5e-8 {
			t.Errorf("%d of %d: %v to %v, want %v to %v", c.k, c.n, lo, hi, c.lo, c.hi)
		}
	}
}

func TestFaultsAreToldTogether(t *testing.T) {
	o := Options{Rollouts: -1, Engine: "steam", Workers: -1}
	for _, c := range []struct {
		err  error
		want []string
	}{
		{(&AA{Options: o, Alpha: 2, Beta: 0, Worlds: []string{"moon"}}).Check(),
			[]string{"rollouts: -1: want", `engine: "steam": want`, "workers: -1: want", "alpha: 2: want", "beta: 0: want", `world: "moon": want`}},
		{(&Power{Options: options(1), Alpha: 0.01, Ratios: []float64{1, 9}, Shares: []float64{100}, Rate: 0.1}).Check(),
			[]string{"ratio: 1: want", "ratio: 9: want", "share: 100: want", "sessions: 0: want", "epoch: 0s: want"}},
		{(&Late{Options: options(1), Alpha: 0.01, Traffic: []float64{0.5}}).Check(), []string{"traffic: 0.5: want"}},
		{(&Coverage{Options: options(1), Alpha: 0.6}).Check(), []string{"alpha: 0.6: want"}},
	} {
		for _, want := range c.want {
			if c.err == nil || !strings.Contains(c.err.Error(), want) {
				t.Errorf("no %q in %v", want, c.err)
			}
		}
	}
}

// TestCoverage: a share of runs that would be seen with probability below 0.001
// at the nominal coverage fails. serin lab coverage counts more.
func TestCoverage(t *testing.T) {
	c := Coverage{Options: options(60), Alpha: 0.05}
	rows, err := c.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rows {
		missed := r.Runs - int(math.Round(r.Covered*float64(r.Runs)))
		if 1-atMost(missed-1, r.Runs, c.Alpha) < 0.001 {
			t.Errorf("%s: the truth was left out in %d of %d runs", r.Sequence, missed, r.Runs)
		}
	}
}

// TestLostTruthIsSeen: a sequence that says nothing wrong at first and leaves the
// truth out once is not covered, at whatever look that is.
func TestLostTruthIsSeen(t *testing.T) {
	defer func(was []sequence) { sequences = was }(sequences)
	sequences = []sequence{{"once", func(float64, *rand.Rand) func(bool) bool {
		n := 0
		return func(look bool) bool { n++; return !look || n < 900 || n > 960 }
	}, 1000}}
	c := Coverage{Options: options(3), Alpha: 0.05}
	rows, err := c.Run(t.Context())
	if err != nil || rows[0].Covered != 0 {
		t.Errorf("%+v, %v", rows, err)
	}
}

func TestLate(t *testing.T) {
	l := Late{Options: options(3), Alpha: 0.01, Traffic: []float64{20}}
	rows, err := l.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rows {
		if r.Power < 1 || r.NoDelay < 1 || r.Told < 0.2 || r.Told > 0.8 {
			t.Errorf("%+v", r)
		}
	}
	// By hand: ln of the quotient 0.9 has the variance 0.1/90.
	q, lo, hi := quotient(90, 100, 100)
	if math.Abs(q-0.9) > 1e-12 || math.Abs(lo-0.82592) > 1e-4 || math.Abs(hi-0.98072) > 1e-4 {
		t.Errorf("%v, from %v to %v", q, lo, hi)
	}
}

// TestLadder: all ways find what is five times as common, the advised one raises
// the share where the time is short, and harm is not below what any test needs.
func TestLadder(t *testing.T) {
	l := Ladder{Options: options(2), Alpha: 0.01, Ratios: []float64{1, 5}, Sessions: []float64{1500}, Minutes: 30}
	rows, err := l.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(rows) != 2*len(Ways) {
		t.Fatalf("%d rows", len(rows))
	}
	for _, r := range rows {
		switch {
		case r.Ratio == 1 && (r.Harm != 0 || r.RolledBack > 0.2 || !math.IsNaN(float64(r.Over))):
			t.Errorf("healthy: %+v", r)
		case r.Ratio == 1 && r.Way == "advised" && r.Exposed < 1500*30*0.02:
			t.Errorf("the share was not raised: %+v", r)
		case r.Ratio == 5 && (r.RolledBack < 1 || r.Harm < float64(r.Least)/2 || r.Exposed == 0):
			t.Errorf("harmful: %+v", r)
		case r.Ratio == 5 && r.Way == "stepwise" && (r.Rollback != 10 || r.Over < 1):
			t.Errorf("looked at as the first rung ends: %+v", r)
		case r.Ratio == 5 && r.Way == "fixed" && r.Over != 1:
			t.Errorf("beside itself: %+v", r)
		}
	}
	// Wald's bound at a share that vanishes.
	const tiny = 1e-7
	weight := l.rules("fixed", l.world(1500)).Policy.Guardrails["error_free"].Weight
	want := evalue.MarksNeeded(tiny, 5, l.Alpha*weight) * tiny * 4
	if least := float64(rows[len(rows)-1].Least); math.Abs(least-want) > 1e-4*want {
		t.Errorf("least %v, by Wald %v", least, want)
	}
	if err := (&Ladder{Options: options(0), Ratios: []float64{0.5}, Sessions: []float64{0}, Minutes: 10}).Check(); err == nil ||
		!strings.Contains(err.Error(), "rollouts: 0") || !strings.Contains(err.Error(), "ratio: 0.5") || !strings.Contains(err.Error(), "sessions: 0") || !strings.Contains(err.Error(), "minutes: 10: want 9 to 9000, divisible by 3") {
		t.Error(err)
	}
}
