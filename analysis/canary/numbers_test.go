package canary

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"serin.dev/serin/analysis/session"
	"serin.dev/serin/analysis/verdict"
	"serin.dev/serin/internal/event"
)

// only returns a rollout that is judged by one guardrail; all others weigh next
// to nothing and need no proof.
func only(t *testing.T, name string, g Guardrail, change func(*Rollout)) Rollout {
	return rollout(t, func(r *Rollout) {
		r.Policy.ReportAfter = Duration(3 * time.Second)
		r.Stages[0].Weight = 0.3
		r.Policy.Guardrails = map[string]Guardrail{}
		for m := range session.Metrics {
			r.Policy.Guardrails[m.String()] = Guardrail{Weight: 1e-12, Optional: true}
		}
		g.Weight = 1
		r.Policy.Guardrails[name] = g
		if change != nil {
			change(r)
		}
	})
}

// measures sends the values that draw gives of a session as events of a metric.
func measures(seed uint64, metric string, draw func(rng *rand.Rand, canary bool) float64) func(*event.Beacon, bool) {
	rng := rand.New(rand.NewPCG(seed, 7))
	return func(bc *event.Beacon, canary bool) {
		if bc.Seq == 0 {
			return
		}
		kind, name, _ := strings.Cut(metric, "/")
		k, _ := event.ParseKind([]byte(kind))
		bc.Events = append(bc.Events, event.One{Kind: k, Name: name, Value: draw(rng, canary), HasVal: true, Time: bc.Received})
	}
}

// scaled draws log-normal values, the canary's larger by a factor.
func scaled(ratio float64) func(*rand.Rand, bool) float64 {
	return func(rng *rand.Rand, canary bool) float64 {
		v := 1500 * math.Exp(rng.NormFloat64()*0.5)
		if canary {
			v *= ratio
		}
		return v
	}
}

func never(bool, string, float64) bool { return false }

// decisions plays rollouts and counts what they come to.
func decisions(t *testing.T, r Rollout, rollouts, sessions int, fails func(bool, string, float64) bool, alter func(seed uint64) func(*event.Beacon, bool)) (count [3]int, last verdict.Verdict) {
	for seed := range uint64(rollouts) {
		last = simulateAs(t, r, seed, sessions, 0.3, fails, alter(seed))
		count[last.Decision]++
	}
	return count, last
}

var numbers = []struct {
	name           string
	g              Guardrail
	harm, at, fine func(*rand.Rand, bool) float64 // the canary worse, worse by the margin, not worse
	sessions       int
	metric         string
}{
	{"fcp_p75", Guardrail{Kind: KindQuantile, Metric: "vital/FCP", Quantile: 0.75, Margin: 0.2}, scaled(1.3), scaled(1.2), scaled(1), 6000, "vital/FCP"},
	{"basket", Guardrail{Kind: KindMean, Metric: "metric/basket", Bound: 10000, Margin: 400, Direction: DirectionDecrease}, scaled(0.7), func(rng *rand.Rand, canary bool) float64 {
		v := 1500 * math.Exp(rng.NormFloat64()*0.5)
		if canary {
			v -= 400
		}
		return max(v, 0)
	}, scaled(1), 8000, "metric/basket"},
	{"start_mean", Guardrail{Kind: KindMean, Metric: "start/cold", Margin: 170}, scaled(1.2), scaled(1.1), scaled(1), 8000, "start/cold"},
}

// TestNumbersErrSeldom holds the bounds of guardrails on values, looked at after
// every 200 sessions: rollbacks without a difference, promotions at the margin.
func TestNumbersErrSeldom(t *testing.T) {
	const rollouts = 30
	for _, c := range numbers {
		r := only(t, c.name, c.g, func(r *Rollout) { r.Policy.Alpha, r.Policy.Beta = 0.05, 0.05 })
		alter := func(draw func(*rand.Rand, bool) float64) func(uint64) func(*event.Beacon, bool) {
			return func(seed uint64) func(*event.Beacon, bool) { return measures(seed, c.metric, draw) }
		}
		same, _ := decisions(t, r, rollouts, 3000, never, alter(c.fine))
		margin, _ := decisions(t, r, rollouts, 3000, never, alter(c.at))
		t.Logf("%s: without a difference %v hold, promote, rollback; at the margin %v", c.name, same, margin)
		if limit := 5; same[verdict.Rollback] > limit || margin[verdict.Promote] > limit { // 1.5 and 3 standard errors
			t.Errorf("%s: %d of %d rolled back without a difference, %d promoted at the margin, at 0.05", c.name, same[verdict.Rollback], rollouts, margin[verdict.Promote])
		}
	}
}

// TestNumbersDecide has a canary that is worse, and one that is not.
func TestNumbersDecide(t *testing.T) {
	for _, c := range numbers {
		r := only(t, c.name, c.g, nil)
		v := simulateAs(t, r, 1, c.sessions, 0.3, never, measures(1, c.metric, c.harm))
		if v.Decision != verdict.Rollback || v.Reasons[0].Code != verdict.Harm {
			t.Errorf("%s, worse: %s: %s", c.name, v.Decision, v.Sentence)
			continue
		}
		f := worst(&v)
		if f.Guardrail != c.name || !f.Blamed || f.Number == nil || f.Number.Metric != c.metric || f.Sessions.Canary == 0 || !strings.Contains(v.Sentence, c.name) {
			t.Errorf("%s: %+v %+v: %s", c.name, f, *f.Number, v.Sentence)
		}
		if c.g.Kind == KindQuantile && !(f.Effect.Lo > 1 && f.Effect.Ratio > 1.1) || c.g.Kind != KindQuantile && f.Stratum == "" && !(f.Number.Lo > 0 || f.Number.Hi < 0) {
			t.Errorf("%s: the interval holds no difference: %+v %+v", c.name, f.Effect, *f.Number)
		}
		if v = simulateAs(t, r, 2, c.sessions, 0.3, never, measures(2, c.metric, c.fine)); v.Decision != verdict.Promote {
			t.Errorf("%s, not worse: %s: %s; %+v", c.name, v.Decision, v.Sentence, v.Findings[len(v.Findings)-1])
		}
	}
}

// TestRareValuesAreRefused has a mean that is of a rare event.
func TestRareValuesAreRefused(t *testing.T) {
	r := only(t, "rare", Guardrail{Kind: KindMean, Metric: "metric/rare", Margin: 0.001}, nil)
	v := simulateAs(t, r, 1, 4000, 0.3, never, measures(1, "metric/rare", func(rng *rand.Rand, _ bool) float64 {
		if rng.Float64() < 0.002 {
			return 1
		}
		return 0
	}))
	f := v.Findings[len(v.Findings)-1]
	if v.Decision != verdict.Hold || !strings.Contains(f.Number.Refused, "Rare events must be counted") {
		t.Errorf("%s: %+v", v.Decision, f.Number)
	}
}

// TestRatioCountsUsers has one user with many sessions who fails in all of them:
// they are one of the many, so that the ratio's evidence does not move.
func TestRatioCountsUsers(t *testing.T) {
	g := Guardrail{Kind: KindRatio, Metric: "error", Per: "view", Margin: 0.1}
	alter := func(rate float64) func(uint64) func(*event.Beacon, bool) {
		return func(seed uint64) func(*event.Beacon, bool) {
			rng := rand.New(rand.NewPCG(seed, 8))
			return func(bc *event.Beacon, canary bool) {
				i := number(t, bc)
				bc.User = fmt.Sprint("user ", i/2)
				if bc.Seq == 0 {
					return
				}
				bc.Events = nil
				for range 1 + rng.IntN(6) {
					bc.Events = append(bc.Events, event.One{Kind: event.View, Name: "/", Time: bc.Received})
					if p := 0.3; rng.Float64() < p || canary && rng.Float64() < rate {
						bc.Events = append(bc.Events, event.One{Kind: event.Error, Name: "E", Time: bc.Received, Attrs: []event.Attr{{Key: "handled", Text: "true"}}})
					}
				}
			}
		}
	}
	r := only(t, "errors_per_view", g, func(r *Rollout) { r.Policy.Alpha = 0.05 })
	if got := r.Policy.Guardrails["errors_per_view"]; got.Unit != UnitUser || got.Take != TakeSum {
		t.Errorf("defaults: %+v", got)
	}
	same, _ := decisions(t, r, 12, 3000, never, alter(0))
	if same[verdict.Rollback] > 3 {
		t.Errorf("%v hold, promote, rollback without a difference", same)
	}
	_, v := decisions(t, r, 1, 6000, never, alter(0.3))
	if v.Decision != verdict.Rollback || worst(&v).Guardrail != "errors_per_view" || worst(&v).Unit != UnitUser {
		t.Errorf("worse: %s: %s", v.Decision, v.Sentence)
	}
}

// TestStagesKeepNumbers moves a rollout to its next stage, in which the values of
// both arms are other: what was found before stays, and the drift is no harm.
func TestStagesKeepNumbers(t *testing.T) {
	g := Guardrail{Kind: KindQuantile, Quantile: 0.75, Margin: 0.2}
	d := Measured{}
	rng := rand.New(rand.NewPCG(3, 3))
	fill := func(n int, arm int, scale float64) {
		for range n {
			d.add(&g, matured{arm: arm, value: scaled(scale)(rng, true)}, nil)
		}
	}
	fill(3000, 0, 1)
	fill(150, 1, 1)
	first := d.safe(&g)
	// The share of the canary rises with the values: over both stages its quantile
	// is higher.
	d = Measured{Harm: d.harm(&g), Safe: first}
	fill(1500, 0, 2)
	fill(1500, 1, 2)
	if d.safe(&g) < first+3 || d.harm(&g) > 3 {
		t.Errorf("safe %v after %v, harm %v", d.safe(&g), first, d.harm(&g))
	}
}

// TestForgedValues has one network send the slow values of the canary.
func TestForgedValues(t *testing.T) {
	for _, c := range numbers {
		r := only(t, c.name, c.g, func(r *Rollout) { r.Stages[0].MinSessions = 1e9 })
		honest, forged := measures(4, c.metric, c.fine), measures(5, c.metric, func(*rand.Rand, bool) float64 {
			if c.g.Direction == DirectionDecrease {
				return 0
			}
			return 9000
		})
		v := simulateAs(t, r, 4, 6000, 0.3, never, func(bc *event.Beacon, canary bool) {
			spread(t, bc)
			if canary && number(t, bc)%4 == 0 {
				bc.Ctx.Prefix = "forger"
				forged(bc, canary)
				return
			}
			honest(bc, canary)
		})
		if v.Decision != verdict.Hold || v.Reasons[0].Code != verdict.Influence || v.Network.Prefix != "forger" {
			t.Errorf("%s: %s: %s; %+v", c.name, v.Decision, v.Sentence, v.Network)
		}
	}
}

// TestTwoSample judges by sessions and not by failures, where nobody plans who
// gets the canary.
func TestTwoSample(t *testing.T) {
	free := func(r *Rollout) {
		r.Policy.Allocation, r.Policy.Alpha, r.Policy.ReportAfter = AllocationFree, 0.05, Duration(3*time.Second)
		r.Policy.Guardrails = map[string]Guardrail{}
		for m := range session.Metrics {
			r.Policy.Guardrails[m.String()] = Guardrail{Weight: 1e-12, Optional: true}
		}
		r.Policy.Guardrails["error_free"] = Guardrail{Weight: 1, Margin: 0.25, Floor: 1e-6}
	}
	r := rollout(t, free)
	if g := r.Policy.Guardrails["error_free"]; g.Evidence != EvidenceTwoSample {
		t.Errorf("%+v", g)
	}
	fails := func(ratio float64) func(bool, string, float64) bool {
		return func(canary bool, device string, u float64) bool {
			p := 0.3
			if device == "tablet" {
				p = 0.5
			}
			if canary {
				p *= ratio
			}
			return u < p
		}
	}
	plain := func(uint64) func(*event.Beacon, bool) { return func(*event.Beacon, bool) {} }
	same, _ := decisions(t, r, 30, 3000, fails(1), plain)
	margin, _ := decisions(t, r, 30, 3000, fails(1.25), plain)
	t.Logf("without a difference %v hold, promote, rollback; at the margin %v", same, margin)
	if same[verdict.Rollback] > 5 || margin[verdict.Promote] > 5 {
		t.Errorf("without a difference %v hold, promote, rollback; at the margin %v", same, margin)
	}
	_, v := decisions(t, r, 1, 6000, fails(1.4), plain)
	if v.Decision != verdict.Rollback || v.Reasons[0].Code != verdict.Harm || v.Observational == "" {
		t.Errorf("worse: %s: %s", v.Decision, v.Sentence)
	}
	if _, v = decisions(t, r, 1, 9000, fails(1), plain); v.Decision != verdict.Promote {
		t.Errorf("not worse: %s: %s", v.Decision, v.Sentence)
	}
}

func TestNumberPolicies(t *testing.T) {
	for name, c := range map[string]struct {
		g    Guardrail
		want string
	}{
		"fine":      {Guardrail{Kind: KindQuantile, Metric: "vital/LCP", Quantile: 0.5}, ""},
		"kind":      {Guardrail{Kind: "median", Metric: "vital/LCP"}, "guardrails.kind.kind"},
		"unknown":   {Guardrail{}, "or, on values, a kind and a metric"},
		"metric":    {Guardrail{Kind: KindMean, Metric: "vital", Margin: 1}, "guardrails.metric.metric"},
		"metric2":   {Guardrail{Kind: KindMean, Metric: "speed/x", Margin: 1}, "guardrails.metric2.metric"},
		"quantile":  {Guardrail{Kind: KindQuantile, Metric: "vital/LCP", Quantile: 1}, "above 0, below 1"},
		"narrow":    {Guardrail{Kind: KindQuantile, Metric: "vital/LCP", Quantile: 0.5, Margin: 0.04}, "a bucket's width"},
		"nomargin":  {Guardrail{Kind: KindMean, Metric: "vital/LCP"}, "in the unit of the mean"},
		"per":       {Guardrail{Kind: KindMean, Metric: "vital/LCP", Per: "view", Margin: 1}, "only a ratio has one"},
		"noper":     {Guardrail{Kind: KindRatio, Metric: "error", Margin: 1}, "guardrails.noper.per"},
		"take":      {Guardrail{Kind: KindMean, Metric: "vital/LCP", Margin: 1, Take: "median"}, "first, last, max or sum"},
		"direction": {Guardrail{Kind: KindMean, Metric: "vital/LCP", Margin: 1, Direction: "up"}, "increase, decrease or either"},
		"bound":     {Guardrail{Kind: KindQuantile, Metric: "vital/LCP", Quantile: 0.5, Bound: 3}, "of a mean alone"},
		"floor":     {Guardrail{Kind: KindMean, Metric: "vital/LCP", Margin: 1, Floor: 0.1}, "only shares of sessions have one"},
		"lcp_good":  {Guardrail{Kind: KindMean}, "guardrails.lcp_good.kind"},
		"inp_good":  {Guardrail{Evidence: EvidenceTwoSample, Unit: UnitUser}, "where users are counted"},
	} {
		p := Policy{Name: "p", Revision: 1, Guardrails: map[string]Guardrail{name: c.g}}
		err := p.Normalize()
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
		if err == nil {
			if again := p; again.Normalize() != nil {
				t.Errorf("%s: what was checked does not pass again", name)
			}
		}
	}
}
