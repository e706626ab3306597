package evalue

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// logChoose returns ln C(n, k).
func logChoose(n, k int64) float64 {
	if k < 0 || k > n {
		return math.Inf(-1)
	}
	a, _ := math.Lgamma(float64(n + 1))
	b, _ := math.Lgamma(float64(k + 1))
	c, _ := math.Lgamma(float64(n - k + 1))
	return a - b - c
}

// outcomes returns the probability of each number of canary failures among x,
// with odds ratio r: Fisher's noncentral hypergeometric distribution, from its
// definition.
func outcomes(x, canary, baseline int64, r float64) map[int64]float64 {
	p, sum := map[int64]float64{}, 0.0
	for k := max(0, x-baseline); k <= min(x, canary); k++ {
		p[k] = math.Exp(logChoose(canary, k) + logChoose(baseline, x-k) + float64(k)*math.Log(r))
		sum += p[k]
	}
	for k := range p {
		p[k] /= sum
	}
	return p
}

// TestExpectation enumerates all outcomes of two batches: under each null the
// expectation of its e-value is at most 1, and exactly 1 at the null's edge.
func TestExpectation(t *testing.T) {
	g := NewGrid()
	type size struct{ x, canary, baseline int64 }
	for _, sizes := range [][2]size{
		{{1, 1, 1}, {2, 3, 4}},
		{{3, 2, 9}, {5, 6, 5}},
		{{4, 12, 3}, {6, 4, 40}},
		{{10, 10, 10}, {1, 1, 99}},
		{{5, 5, 0}, {3, 0, 7}},
	} {
		expect := func(r float64, logE func(Marks) float64) (sum float64) {
			for a, pa := range outcomes(sizes[0].x, sizes[0].canary, sizes[0].baseline, r) {
				for b, pb := range outcomes(sizes[1].x, sizes[1].canary, sizes[1].baseline, r) {
					m := g.NewMarks()
					g.AddBatch(&m, a, sizes[0].x-a, sizes[0].canary, sizes[0].baseline)
					g.AddBatch(&m, b, sizes[1].x-b, sizes[1].canary, sizes[1].baseline)
					sum += pa * pb * math.Exp(logE(m))
				}
			}
			return sum
		}
		const margin = 0.5
		safety := func(m Marks) float64 { return g.Safety(m, margin) }
		if e := expect(1, g.Harm); math.Abs(e-1) > 1e-9 {
			t.Errorf("%v: the harm e-value's expectation is %v under equal odds", sizes, e)
		}
		if e := expect(1+margin, safety); math.Abs(e-1) > 1e-9 {
			t.Errorf("%v: the safety e-value's expectation is %v at the margin", sizes, e)
		}
		for _, r := range []float64{0.3, 0.8, 0.99} {
			if e := expect(r, g.Harm); e > 1+1e-9 {
				t.Errorf("%v: the harm e-value's expectation is %v at odds ratio %v", sizes, e, r)
			}
			if e := expect((1+margin)/r, safety); e > 1+1e-9 {
				t.Errorf("%v: the safety e-value's expectation is %v at odds ratio %v", sizes, e, (1+margin)/r)
			}
		}
	}
}

// TestAddIsExact does the same for single marks, and for the sample ratio.
func TestAddIsExact(t *testing.T) {
	g := NewGrid()
	for _, share := range []float64{0.01, 0.1, 0.5, 0.93} {
		sum, ratio := 0.0, 0.0
		for _, canary := range []bool{true, false} {
			p := share
			if !canary {
				p = 1 - share
			}
			m := g.NewMarks()
			g.Add(&m, canary, share)
			sum += p * math.Exp(g.Harm(m))
			r := NewRatio()
			r.Add(canary, share)
			ratio += p * math.Exp(r.LogE())
		}
		if math.Abs(sum-1) > 1e-12 || math.Abs(ratio-1) > 1e-12 {
			t.Errorf("share %v: expectations %v and %v", share, sum, ratio)
		}
	}
}

// bernoulliBatch draws the failures of n sessions.
func bernoulliBatch(rng *rand.Rand, n int64, p float64) (failures int64) {
	for range n {
		if rng.Float64() < p {
			failures++
		}
	}
	return failures
}

// world is a rollout that a simulation draws: the sessions of each batch vary
// with the time of day and the weight with the stage, in two strata.
type world struct {
	batches  int
	baseline [2]float64 // failure share by stratum
	odds     [2]float64 // of the canary, relative to the baseline's
}

// run draws one rollout and calls look after each batch, with the marks of
// both strata, until it returns true.
func (w world) run(rng *rand.Rand, g *Grid, look func(strata []Marks) (stop bool)) {
	strata := []Marks{g.NewMarks(), g.NewMarks()}
	for b := range w.batches {
		weight := []float64{0.05, 0.25, 0.5}[3*b/w.batches]
		for s := range strata {
			n := 5 + int64(25*(1+math.Sin(float64(b)/7+float64(s))))
			canary := bernoulliBatch(rng, n, weight)
			p0 := w.baseline[s] * (1 + 0.5*math.Sin(float64(b)/11))
			p1 := p0 * w.odds[s] / (1 - p0 + p0*w.odds[s])
			x1, x0 := bernoulliBatch(rng, canary, p1), bernoulliBatch(rng, n-canary, p0)
			g.AddBatch(&strata[s], x1, x0, canary, n-canary)
		}
		if look(strata) {
			return
		}
	}
}

// rate is how many of a number of rollouts stop.
func (w world) rate(seed uint64, rollouts int, stop func(g *Grid, strata []Marks) bool) float64 {
	g := NewGrid()
	stopped := 0
	for i := range rollouts {
		w.run(rand.New(rand.NewPCG(seed, uint64(i))), g, func(strata []Marks) bool {
			if stop(g, strata) {
				stopped++
				return true
			}
			return false
		})
	}
	return float64(stopped) / float64(rollouts)
}

func pool(strata []Marks) Marks {
	var all Marks
	for _, m := range strata {
		all.Merge(m)
	}
	return all
}

// atMost fails where a rate is above a bound by more than chance: where as many
// or more would be seen with probability below 0.001 at the bound (the lower
// end of the exact binomial interval, Clopper & Pearson, 1934, is above it).
func atMost(t *testing.T, what string, rate, bound float64, rollouts int) {
	t.Helper()
	k := int(math.Round(rate * float64(rollouts)))
	chance := binomialTail(k, rollouts, bound)
	t.Logf("%s: %d of %d, bound %v; so many or more have probability %.3f at the bound", what, k, rollouts, bound, chance)
	if chance < 0.001 {
		t.Errorf("%s: %.4f, above %v by more than chance", what, rate, bound)
	}
}

// binomialTail returns the probability of k or more of n.
func binomialTail(k, n int, p float64) (sum float64) {
	for i := k; i <= n; i++ {
		sum += math.Exp(logChoose(int64(n), int64(i)) + float64(i)*math.Log(p) + float64(n-i)*math.Log1p(-p))
	}
	return min(sum, 1)
}

// TestFalseRollbackRate looks after every batch, while weight and load change.
func TestFalseRollbackRate(t *testing.T) {
	const alpha, rollouts = 0.05, 800
	same := world{batches: 120, baseline: [2]float64{0.03, 0.2}, odds: [2]float64{1, 1}}
	atMost(t, "false rollbacks without a difference", same.rate(1, rollouts, func(g *Grid, s []Marks) bool {
		return g.Harm(pool(s)) >= math.Log(1/alpha)
	}), alpha, rollouts)
	better := world{batches: 120, baseline: [2]float64{0.03, 0.2}, odds: [2]float64{0.9, 1}}
	atMost(t, "false rollbacks of a canary that is better", better.rate(2, rollouts, func(g *Grid, s []Marks) bool {
		return g.Harm(pool(s)) >= math.Log(1/alpha)
	}), alpha, rollouts)
}

// TestFalsePromotionRate has a canary that is worse by just the margin.
func TestFalsePromotionRate(t *testing.T) {
	const beta, rollouts = 0.05, 800
	w := world{batches: 120, baseline: [2]float64{0.03, 0.2}, odds: [2]float64{1.25, 1.25}}
	atMost(t, "false promotions at the margin", w.rate(3, rollouts, func(g *Grid, s []Marks) bool {
		return g.Safety(pool(s), 0.25) >= math.Log(1/beta)
	}), beta, rollouts)
}

// TestPower: what never stops keeps every bound.
func TestPower(t *testing.T) {
	const rollouts = 300
	bad := world{batches: 120, baseline: [2]float64{0.03, 0.2}, odds: [2]float64{2, 2}}
	if r := bad.rate(4, rollouts, func(g *Grid, s []Marks) bool { return g.Harm(pool(s)) >= math.Log(100) }); r < 0.95 {
		t.Errorf("only %.3f of the canaries with doubled odds are found", r)
	}
	hidden := world{batches: 120, baseline: [2]float64{0.03, 0.2}, odds: [2]float64{10, 1}}
	if r := hidden.rate(5, rollouts, func(g *Grid, s []Marks) bool { return g.Harm(s[0]) >= math.Log(100) }); r < 0.95 {
		t.Errorf("only %.3f of the canaries that break one stratum are found there", r)
	}
	fine := world{batches: 120, baseline: [2]float64{0.2, 0.2}, odds: [2]float64{0.9, 0.9}}
	g := NewGrid()
	safe := 0
	for i := range rollouts {
		fine.run(rand.New(rand.NewPCG(6, uint64(i))), g, func(s []Marks) bool {
			if g.Safety(pool(s), 1) >= math.Log(20) {
				safe++
				return true
			}
			return false
		})
	}
	if safe < rollouts*9/10 {
		t.Errorf("only %d of %d canaries that are better are proven safe", safe, rollouts)
	}
}

// TestIntervalCoverage: the interval holds the true ratio at all looks at once.
func TestIntervalCoverage(t *testing.T) {
	const alpha, rollouts = 0.1, 200
	for seed, odds := range []float64{1, 1.7} {
		w := world{batches: 120, baseline: [2]float64{0.03, 0.2}, odds: [2]float64{odds, odds}}
		atMost(t, fmt.Sprintf("intervals that miss %v at some look", odds), w.rate(uint64(10+seed), rollouts, func(g *Grid, s []Marks) bool {
			lo, hi := g.Interval(pool(s), alpha)
			return odds < lo || odds > hi
		}), alpha, rollouts)
	}
}

func TestSampleRatioSimulated(t *testing.T) {
	const alpha, rollouts, sessions = 0.05, 400, 1500
	rate := func(seed uint64, off float64) float64 {
		stopped := 0
		for i := range rollouts {
			rng := rand.New(rand.NewPCG(seed, uint64(i)))
			r := NewRatio()
			for n := range sessions {
				planned := []float64{0.05, 0.25, 0.5}[3*n/sessions]
				r.Add(rng.Float64() < planned*off, planned)
				if r.LogE() >= math.Log(1/alpha) {
					stopped++
					break
				}
			}
		}
		return float64(stopped) / rollouts
	}
	atMost(t, "sample ratios as planned that are flagged", rate(20, 1), alpha, rollouts)
	if r := rate(21, 0.7); r < 0.95 {
		t.Errorf("only %.3f of the rollouts that lose 30 %% of the canary are flagged", r)
	}
}

func TestMergeIsSequence(t *testing.T) {
	g := NewGrid()
	rng := rand.New(rand.NewPCG(30, 1))
	one, a, b := g.NewMarks(), g.NewMarks(), g.NewMarks()
	for i := range 200 {
		x, y, n, m := rng.Int64N(4), rng.Int64N(4), 4+rng.Int64N(20), 4+rng.Int64N(20)
		g.AddBatch(&one, x, y, n, m)
		part := &a
		if i%3 == 0 {
			part = &b
		}
		g.AddBatch(part, x, y, n, m)
	}
	var merged Marks
	merged.Merge(a)
	merged.Merge(b)
	if math.Abs(g.Harm(one)-g.Harm(merged)) > 1e-9 || merged.Canary != one.Canary || merged.Baseline != one.Baseline {
		t.Errorf("%v in one, %v merged", g.Harm(one), g.Harm(merged))
	}
}

// TestExtremes: whatever the counts, no NaN and nothing out of order.
func TestExtremes(t *testing.T) {
	g := NewGrid()
	for _, c := range [][4]int64{
		{0, 0, 0, 0}, {0, 0, 5, 5}, {5, 0, 5, 0}, {0, 5, 0, 5}, {5, 5, 5, 5}, {1, 0, 1, 1_000_000}, {0, 1, 1_000_000, 1},
		{5000, 0, 5000, 5000}, {0, 5000, 5000, 5000}, {20_000, 20_000, 1_000_000, 1_000_000},
	} {
		m := g.NewMarks()
		g.AddBatch(&m, c[0], c[1], c[2], c[3])
		lo, hi := g.Interval(m, 0.05)
		for name, v := range map[string]float64{"harm": g.Harm(m), "safety": g.Safety(m, 0.25), "lo": lo, "hi": hi} {
			if math.IsNaN(v) {
				t.Errorf("%v: %s is NaN", c, name)
			}
		}
		if lo > hi {
			t.Errorf("%v: interval %v to %v", c, lo, hi)
		}
	}
	m := g.NewMarks()
	if lo, hi := g.Interval(m, 0.05); g.Harm(m) != 0 || g.Safety(m, 0.25) != 0 || lo != 0 || !math.IsInf(hi, 1) || !math.IsNaN(g.Estimate(m)) {
		t.Errorf("without marks: %v %v %v %v %v", g.Harm(m), g.Safety(m, 0.25), lo, hi, g.Estimate(m))
	}
}

func TestMean(t *testing.T) {
	if got, want := Mean([]float64{math.Log(3), math.Log(5)}, []float64{0.5, 0.25}), math.Log(0.5*3+0.25*5); math.Abs(got-want) > 1e-12 {
		t.Errorf("%v, want %v", got, want)
	}
	if got := Mean([]float64{1000, -1000}, []float64{0.5, 0.5}); math.Abs(got-(1000-math.Ln2)) > 1e-9 {
		t.Errorf("a large one: %v", got)
	}
}

func TestEBH(t *testing.T) {
	ln := math.Log
	for _, c := range []struct {
		e     []float64
		alpha float64
		want  []int
	}{
		{nil, 0.05, nil},
		{[]float64{19}, 0.05, nil},
		{[]float64{21}, 0.05, []int{0}},
		{[]float64{1, 41, 1}, 0.05, nil},          // 60 are needed alone
		{[]float64{1, 61, 1}, 0.05, []int{1}},     //
		{[]float64{31, 1, 31}, 0.05, []int{0, 2}}, // two together need 30 each
		{[]float64{21, 21, 21}, 0.05, []int{0, 1, 2}},
	} {
		var logs []float64
		for _, e := range c.e {
			logs = append(logs, ln(e))
		}
		got := slices.Clone(EBH(logs, c.alpha))
		slices.Sort(got)
		if !slices.Equal(got, c.want) {
			t.Errorf("%v: %v, want %v", c.e, got, c.want)
		}
	}
}

func TestPlans(t *testing.T) {
	last := math.Inf(1)
	for _, r := range []float64{1.1, 1.3, 2, 4, 8} {
		n := MarksNeeded(0.1, r, 0.01)
		if !(n > 0 && n < last) {
			t.Errorf("ratio %v needs %v marks, and a smaller one %v", r, n, last)
		}
		last = n
	}
	if n := MarksNeeded(0.1, 1, 0.01); !math.IsInf(n, 1) {
		t.Errorf("no difference needs %v marks", n)
	}
	if n := SafetyMarksNeeded(0.1, 0.5, 0.05); !(n > SafetyMarksNeeded(0.1, 1, 0.05)) {
		t.Errorf("a narrower margin needs %v marks, not more", n)
	}
}
