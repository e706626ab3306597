package evalue

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"unsafe"
)

// TestMarksSize: what one series and stratum takes, all of it.
func TestMarksSize(t *testing.T) {
	if size := unsafe.Sizeof(Marks{}); size > 128 {
		t.Errorf("Marks take %d B, want at most 128", size)
	}
	g := NewGrid()
	m := g.NewMarks()
	if n := testing.AllocsPerRun(100, func() {
		g.Add(&m, true, 0.1)
		g.AddCell(&m, 3, 40, 0.1)
		g.AddBatch(&m, 2, 3, 40, 400)
		g.AddBatch(&m, 200, 3000, 4000, 40000)
		g.Harm(m)
		g.Safety(m, 0.3)
		g.Interval(m, 0.05)
	}); n != 0 {
		t.Errorf("%v allocations, want none", n)
	}
}

// TestLogs compares the table with math.Log.
func TestLogs(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	for range 20_000 {
		var x, in [points]float64
		for i := range x {
			in[i] = math.Exp(300 * (2*rng.Float64() - 1))
			if i%2 == 0 {
				in[i] = 1 + rng.NormFloat64()*1e-3
			}
		}
		x = in
		logs(&x)
		for i, v := range x {
			if want := math.Log(in[i]); math.Abs(v-want) > 4e-16+4e-16*math.Abs(want) {
				t.Fatalf("ln %v: %v, want %v", in[i], v, want)
			}
		}
	}
}

// TestInterpolation searches for the largest error of a log likelihood between
// the nodes, per mark, over shares from 1e-6 to 1-1e-6.
func TestInterpolation(t *testing.T) {
	g := NewGrid()
	worst := 0.0
	for i := 0; i+1 < spanned; i++ {
		for part := range 8 {
			ratio := g.logs[i] + (g.logs[i+1]-g.logs[i])*float64(part)/8
			c := g.coefficients(ratio)
			for logit := -14.0; logit < 14; logit += 0.05 {
				share := 1 / (1 + math.Exp(-logit))
				for _, canary := range []bool{false, true} {
					var m Marks
					g.Add(&m, canary, share)
					want := -math.Log1p(share * math.Expm1(ratio))
					if canary {
						want += ratio
					}
					worst = max(worst, math.Abs(m.at(&c)-want))
				}
			}
		}
	}
	t.Logf("largest error: %.2g nats per mark", worst)
	if worst > interpolationError {
		t.Errorf("an error of %.3g per mark, above the %v that evidence allows for", worst, interpolationError)
	}

	// A batch is a product of as many single marks, so its bound is x-fold.
	for _, b := range [][4]int64{{3, 5, 10, 40}, {30, 50, 100, 4000}, {200, 900, 1000, 9000}} {
		var m Marks
		g.AddBatch(&m, b[0], b[1], b[2], b[3])
		for k := range fine {
			x, logR := b[0]+b[1], g.fineLogs[k]
			top, norm := 0.0, 0.0
			terms := func(logR float64) float64 {
				best, sum := math.Inf(-1), 0.0
				for pass := range 2 {
					for u := max(0, x-b[3]); u <= min(x, b[2]); u++ {
						l := logChoose(b[2], u) + logChoose(b[3], x-u) + float64(u)*logR
						if pass == 0 {
							best = max(best, l)
						} else {
							sum += math.Exp(l - best)
						}
					}
				}
				return best + math.Log(sum)
			}
			top, norm = terms(logR), terms(0)
			want := float64(b[0])*logR - (top - norm)
			if err := math.Abs(m.at(&g.fineCoefs[k]) - want); err > m.slack()+1e-9 {
				t.Errorf("%v at ratio %v: off by %.3g, bound %.3g", b, math.Exp(logR), err, m.slack())
			}
		}
	}
}

// TestCellIsExact sums over all outcomes of a cell under Poisson counts, by
// what the canary's are given the total: the harm e-value's expectation is 1
// at ratio 1 and the safety e-value's at the margin, and neither is more
// within its null. For sessions that fail at most once harm stays below 1.
func TestCellIsExact(t *testing.T) {
	g := NewGrid()
	for _, share := range []float64{0.01, 0.1, 0.5, 0.9} {
		for _, x := range []int64{1, 2, 7, 30} {
			expect := func(ratio float64, logE func(Marks) float64) (sum float64) {
				p := share * ratio / (1 - share + share*ratio)
				for k := range x + 1 {
					var m Marks
					g.AddCell(&m, k, x-k, share)
					sum += math.Exp(logChoose(x, k) + float64(k)*math.Log(p) + float64(x-k)*math.Log1p(-p) + logE(m))
				}
				return sum
			}
			for _, margin := range []float64{0.2, 0.5, 1, 0.25, 0.1, 3} {
				safety := func(m Marks) float64 { return g.Safety(m, margin) }
				if e := expect(1+margin, safety); e > 1+1e-9 || e < 1-float64(x)*3*interpolationError {
					t.Errorf("share %v, %d failures: safety's expectation is %v at margin %v", share, x, e, margin)
				}
				if e := expect(1.5*(1+margin), safety); e > 1 {
					t.Errorf("share %v, %d failures: safety's expectation is %v beyond margin %v", share, x, e, margin)
				}
			}
			if e := expect(1, g.Harm); math.Abs(e-1) > 1e-9 {
				t.Errorf("share %v, %d failures: harm's expectation is %v", share, x, e)
			}
			if e := expect(0.7, g.Harm); e > 1 {
				t.Errorf("share %v, %d failures: harm's expectation is %v for a better canary", share, x, e)
			}
		}
	}
	for _, c := range [][3]int64{{5, 10, 30}, {20, 10, 30}, {30, 40, 40}} {
		sum := 0.0
		for k, p := range outcomes(c[0], c[1], c[2], 1) {
			var m Marks
			g.AddCell(&m, k, c[0]-k, float64(c[1])/float64(c[1]+c[2]))
			sum += p * math.Exp(g.Harm(m))
		}
		if sum > 1 {
			t.Errorf("%v: harm's expectation is %v for sessions that fail at most once", c, sum)
		}
	}
}

// walk computes exactly, by summing over all paths, what becomes of a test
// that looks after each of up to limit marks, at a constant share and ratio.
type walk struct {
	share, ratio float64
	logE         func(Marks) float64
	threshold    float64
	low          bool // few canary marks are evidence, not many
	limit        int
}

// run returns the expected number of marks until the threshold is reached or
// the limit, and the probability that it is reached.
func (w walk) run(g *Grid) (marks, reached float64) {
	marks, reached, _ = w.whole(g)
	return marks, reached
}

// whole returns the median, too: the marks by which half of the paths have
// reached the threshold, between two numbers in proportion.
func (w walk) whole(g *Grid) (marks, reached, median float64) {
	p := w.share * w.ratio / (1 - w.share + w.share*w.ratio)
	var canary, baseline Marks
	g.Add(&canary, true, w.share)
	g.Add(&baseline, false, w.share)
	stops := func(n, k int) bool {
		m := Marks{Canary: int64(k), Baseline: int64(n - k)}
		for i := range m.LogL {
			m.LogL[i] = float64(k)*canary.LogL[i] + float64(n-k)*baseline.LogL[i]
		}
		return w.logE(m) >= w.threshold
	}
	// The evidence is monotone in k, so those that go on have k below an
	// edge, or from an edge on. It does not fall as n grows.
	edge, first := 0, 0
	before := 1.0
	alive := append(make([]float64, 0, 4*w.limit), 1) // what is cut off in front is not used again
	for n := 1; n <= w.limit; n++ {
		total := 0.0
		for _, a := range alive {
			total += a
		}
		marks += total
		if before > 0.5 && total <= 0.5 {
			median = float64(n-2) + (before-0.5)/(before-total)
		}
		before = total
		if total < 1e-7 {
			break
		}
		alive = append(alive, 0)
		one := 0.0 // of those with one canary mark fewer
		for i, a := range alive {
			alive[i] = a*(1-p) + one*p
			one = a
		}
		if w.low {
			for edge <= n && stops(n, edge) {
				edge++
			}
			for first < edge && len(alive) > 0 {
				reached += alive[0]
				alive, first = alive[1:], first+1
			}
		} else {
			for !stops(n, edge) {
				edge++
			}
			for first+len(alive) > edge && len(alive) > 0 {
				reached += alive[len(alive)-1]
				alive = alive[:len(alive)-1]
			}
			for len(alive) > 1 && alive[0] < 1e-11 {
				alive, first = alive[1:], first+1
			}
		}
	}
	return marks, reached, median
}

// TestDelay: the exact median of marks to a verdict, over that of a test that
// knows the ratio, which is what its delay is where sessions come evenly.
func TestDelay(t *testing.T) {
	g := NewGrid()
	for _, share := range []float64{0.5, 0.1, 0.01} {
		for _, ratio := range []float64{1.5, 2, 3, 5} {
			c := g.coefficients(math.Log(ratio))
			_, _, got := walk{share: share, ratio: ratio, logE: g.Harm, threshold: math.Log(100), limit: 40_000}.whole(g)
			_, _, knows := walk{share: share, ratio: ratio, logE: func(m Marks) float64 { return m.at(&c) }, threshold: math.Log(100), limit: 40_000}.whole(g)
			t.Logf("share %v, ratio %v: %.1f marks, %.3f times %.1f", share, ratio, got, got/knows, knows)
			if got > 1.35*knows || !(got > 0.9*knows) {
				t.Errorf("share %v, ratio %v: a median of %v marks, of a test that knows the ratio %v", share, ratio, got, knows)
			}
		}
	}
}

// TestTuning: the exact mean number of marks to a verdict, over Wald's bound
// ln(1/alpha)/KL, which even a test that knows the ratio misses by its
// overshoot. The bars are what the engine promises at a share of 10 %.
func TestTuning(t *testing.T) {
	const alpha = 0.01
	g := NewGrid()
	equal := func(m Marks) float64 {
		parts := make([]weighted, len(harmMixture))
		for i, p := range harmMixture {
			parts[i] = weighted{p.node, -math.Log(float64(len(harmMixture)))}
		}
		return mixture(&m, parts)
	}
	type row struct{ share, ratio, bar float64 }
	rows := []row{
		{0.1, 1.2, 1.65}, {0.1, 1.5, 1.30}, {0.1, 2, 1.25}, {0.1, 3, 1.18}, {0.1, 5, 1.30}, {0.1, 10, 1.43},
		{0.5, 1.5, 1.40}, {0.5, 2, 1.30}, {0.5, 3, 1.25}, {0.5, 5, 1.25}, {0.5, 10, 1.30},
		{0.01, 2, 1.30}, {0.01, 3, 1.30}, {0.01, 5, 1.35}, {0.01, 10, 1.50},
	}
	t.Log("harm     share  ratio  Wald's marks  test/Wald  equal weights  knows the ratio")
	for _, r := range rows {
		bound := MarksNeeded(r.share, r.ratio, alpha)
		over := func(logE func(Marks) float64) float64 {
			n, _ := walk{share: r.share, ratio: r.ratio, logE: logE, threshold: -math.Log(alpha), limit: 40_000}.run(g)
			return n / bound
		}
		c := g.coefficients(math.Log(r.ratio))
		got := over(g.Harm)
		if r.share == 0.1 {
			t.Logf("         %5v  %5v  %12.1f  %9.3f  %13.3f  %15.3f", r.share, r.ratio, bound, got, over(equal), over(func(m Marks) float64 { return m.at(&c) }))
		} else {
			t.Logf("         %5v  %5v  %12.1f  %9.3f", r.share, r.ratio, bound, got)
		}
		if got > r.bar {
			t.Errorf("share %v, ratio %v: %.3f times Wald's bound, want at most %v", r.share, r.ratio, got, r.bar)
		}
	}
	t.Log("safety   share  margin  ratio  Wald's marks  test/Wald")
	for _, r := range []struct{ share, margin, ratio, bar float64 }{
		{0.1, 0.25, 1, 1.35}, {0.1, 0.5, 1, 1.35}, {0.1, 1, 1, 1.35}, {0.5, 0.25, 1, 1.35}, {0.5, 0.5, 1, 1.35}, {0.5, 1, 1, 1.40}, {0.1, 0.5, 0.8, 1.60},
	} {
		bound := SafetyMarksNeeded(r.share, r.margin, 0.05)
		if r.ratio != 1 {
			// The divergence of the margin's law of marks from the truth's.
			q := r.share * r.ratio / (1 - r.share + r.share*r.ratio)
			bound = math.Log(20) / (math.Log1p(r.share*r.margin) - math.Log1p(r.share*(r.ratio-1)) - q*math.Log((1+r.margin)/r.ratio))
		}
		n, _ := walk{share: r.share, ratio: r.ratio, low: true, threshold: math.Log(20), limit: 40_000,
			logE: func(m Marks) float64 { return g.Safety(m, r.margin) }}.run(g)
		if r.ratio == 1 {
			turned := SafetyMarksNeeded(r.share, 1/(1+r.margin)-1, 0.05)
			kept, _ := walk{share: r.share, ratio: 1, threshold: math.Log(20), limit: 40_000, logE: func(m Marks) float64 { return g.NotFewer(m, r.margin) }}.run(g)
			if t.Logf("not fewer%6v  %6v  %5v  %12.1f  %9.3f", r.share, r.margin, r.ratio, turned, kept/turned); kept/turned > 1.4 {
				t.Errorf("share %v, margin %v: not fewer after %.3f times Wald's bound", r.share, r.margin, kept/turned)
			}
		}
		t.Logf("         %5v  %6v  %5v  %12.1f  %9.3f", r.share, r.margin, r.ratio, bound, n/bound)
		if n/bound > r.bar {
			t.Errorf("share %v, margin %v, ratio %v: %.3f times Wald's bound, want at most %v", r.share, r.margin, r.ratio, n/bound, r.bar)
		}
	}
}

// TestErrorsExactly: the probability of an error within 3,000 marks, by summing
// over all paths.
func TestErrorsExactly(t *testing.T) {
	g := NewGrid()
	for _, share := range []float64{0.01, 0.1, 0.5} {
		_, harm := walk{share: share, ratio: 1, logE: g.Harm, threshold: math.Log(100), limit: 3_000}.run(g)
		_, better := walk{share: share, ratio: 0.8, logE: g.Harm, threshold: math.Log(100), limit: 3_000}.run(g)
		_, safe := walk{share: share, ratio: 1.5, low: true, threshold: math.Log(20), limit: 3_000,
			logE: func(m Marks) float64 { return g.Safety(m, 0.5) }}.run(g)
		_, less := walk{share: share, ratio: 1, low: true, logE: g.Fewer, threshold: math.Log(100), limit: 3_000}.run(g)
		_, kept := walk{share: share, ratio: 1 / 1.5, threshold: math.Log(20), limit: 3_000,
			logE: func(m Marks) float64 { return g.NotFewer(m, 0.5) }}.run(g)
		t.Logf("share %v: false rollback %.4f (better canary %.4f), false promotion at the margin %.4f; where fewer is harm %.4f and %.4f", share, harm, better, safe, less, kept)
		if harm > 0.01 || better > harm || safe > 0.05 || less > 0.01 || kept > 0.05 {
			t.Errorf("share %v: errors %v, %v, %v, %v and %v", share, harm, better, safe, less, kept)
		}
		if harm < 0.001 || safe < 0.01 {
			t.Errorf("share %v: errors %v and %v are too small for a test that reaches its bound", share, harm, safe)
		}
	}
}

// TestEstimateEnds has failures on one arm alone, which no ratio is too far for.
func TestEstimateEnds(t *testing.T) {
	g := NewGrid()
	for _, c := range []struct {
		canary int64
		want   float64
	}{{10, MaxEstimate}, {0, MinEstimate}} {
		var m Marks
		g.AddBatch(&m, c.canary, 10-c.canary, 100, 100)
		if got := g.Estimate(m); math.Abs(got/c.want-1) > 1e-9 {
			t.Errorf("%d of 10 failures on the canary: %v, want %v", c.canary, got, c.want)
		}
	}
}

// TestEstimateIsLikeliest: at a constant share the likeliest ratio has a closed
// form, and the interval is where the likelihood is high enough.
func TestEstimateIsLikeliest(t *testing.T) {
	g := NewGrid()
	for _, c := range []struct {
		canary, baseline int64
		share            float64
	}{{30, 100, 0.1}, {5, 5, 0.5}, {300, 2500, 0.1}, {2, 40, 0.03}, {70_000, 600_000, 0.1}, {40, 90, 0.5}} {
		var m Marks
		g.AddCell(&m, c.canary, c.baseline, c.share)
		want := float64(c.canary) / float64(c.baseline) * (1 - c.share) / c.share
		if got := g.Estimate(m); math.Abs(math.Log(got/want)) > 1e-4 {
			t.Errorf("%+v: estimate %v, want %v", c, got, want)
		}
		likely := func(ratio float64) float64 {
			return float64(c.canary)*math.Log(ratio) - float64(c.canary+c.baseline)*math.Log1p(c.share*(ratio-1))
		}
		sum := 0.0
		for k := range fine {
			sum += math.Exp(g.fineWeight[k] + likely(math.Exp(g.fineLogs[k])) - likely(want))
		}
		floor := likely(want) + math.Log(sum) + math.Log(0.05)
		lo, hi := g.Interval(m, 0.05)
		for _, end := range []float64{lo, hi} {
			if end == 0 || math.IsInf(end, 1) {
				continue
			}
			if off := likely(end) - floor; off > 1e-6 || off < -3*m.slack()-1e-6 {
				t.Errorf("%+v: at the end %v of the interval the log likelihood is off by %v", c, end, off)
			}
		}
	}
}

// TestIntervalExactly: the probability that the interval misses the ratio at
// some look within 1,500 marks, by summing over all paths.
func TestIntervalExactly(t *testing.T) {
	g := NewGrid()
	const alpha, limit = 0.05, 1500
	for _, c := range []struct{ share, ratio float64 }{{0.1, 1}, {0.1, 2}, {0.5, 0.6}, {0.01, 5}} {
		p := c.share * c.ratio / (1 - c.share + c.share*c.ratio)
		holds := func(n, k int) bool {
			var m Marks
			g.AddCell(&m, int64(k), int64(n-k), c.share)
			lo, hi := g.Interval(m, alpha)
			return lo <= c.ratio && c.ratio <= hi
		}
		// The counts that keep the ratio are those from first to last; neither
		// end falls as marks come, and they start together.
		first, last := 0, 0
		alive, missed := []float64{1}, 0.0
		for n := 1; n <= limit; n++ {
			next := make([]float64, len(alive)+1)
			for i, a := range alive {
				next[i] += a * (1 - p)
				next[i+1] += a * p
			}
			last++
			for len(next) > 0 && !holds(n, first) {
				missed += next[0]
				next, first = next[1:], first+1
			}
			for len(next) > 0 && !holds(n, last) {
				missed += next[len(next)-1]
				next, last = next[:len(next)-1], last-1
			}
			alive = next
		}
		t.Logf("share %v, ratio %v: missed at some look with probability %.4f", c.share, c.ratio, missed)
		if missed > alpha || missed < alpha/10 {
			t.Errorf("share %v, ratio %v: missed with probability %v, alpha is %v", c.share, c.ratio, missed, alpha)
		}
	}
}

// TestIntervalLarge: with 100,000 marks, where the steps of the mixture matter,
// intervals still hold the ratio at all looks, and are narrow.
func TestIntervalLarge(t *testing.T) {
	const runs, alpha, ratio, share = 200, 0.05, 1.07, 0.1
	g := NewGrid()
	missed, width, whole := 0, 0.0, 0.0
	for i := range runs {
		rng := rand.New(rand.NewPCG(40, uint64(i)))
		var m Marks
		p := share * ratio / (1 - share + share*ratio)
		held := true
		var lo, hi float64
		for look := 0; look < 100 && held; look++ {
			n := int64(1000)
			if look < 20 {
				n = 10 // the early looks are where a wrong interval misses
			}
			// A normal approximation of a binomial of 1,000 is near enough, and
			// early looks are exact.
			k := int64(math.Round(float64(n)*p + rng.NormFloat64()*math.Sqrt(float64(n)*p*(1-p))))
			if n == 10 {
				k = bernoulliBatch(rng, n, p)
			}
			g.AddCell(&m, k, n-k, share)
			if lo, hi = g.Interval(m, alpha); lo > ratio || hi < ratio {
				missed++
				held = false
			}
		}
		if held {
			width += math.Log(hi / lo)
			whole++
		}
	}
	width /= whole
	fixed := 2 * 1.96 / math.Sqrt(80_200*share*(1-share))
	t.Logf("mean width %.4f of the log ratio, %.2f times that of a fixed-size interval", width, width/fixed)
	atMost(t, "intervals that miss at some look", float64(missed)/runs, alpha, runs)
	if width/fixed > 2 {
		t.Errorf("intervals are %.2f times as wide as a fixed-size one", width/fixed)
	}
}

// TestMarksKeep: what a checkpoint writes is what it reads.
func TestMarksKeep(t *testing.T) {
	g := NewGrid()
	var m, back Marks
	g.AddBatch(&m, 3, 9, 40, 300)
	b, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &back); err != nil || back != m {
		t.Errorf("%v, %v from %s", back, err, b)
	}
}

func BenchmarkAdd(b *testing.B) {
	g := NewGrid()
	var m Marks
	b.ReportAllocs()
	for i := range b.N {
		g.Add(&m, i&7 == 0, 0.1+float64(i&15)/100)
	}
}

func BenchmarkAddCell(b *testing.B) {
	g := NewGrid()
	var m Marks
	b.ReportAllocs()
	for i := range b.N {
		g.AddCell(&m, int64(i&1), int64(i&7), 0.1+float64(i&15)/100)
	}
}

func BenchmarkAddBatch(b *testing.B) {
	g := NewGrid()
	for _, size := range [][4]int64{{0, 2, 20, 200}, {1, 4, 20, 200}, {2, 6, 20, 200}, {4, 16, 40, 400}, {30, 100, 1000, 9000}} {
		b.Run(fmt.Sprintf("failures=%d", size[0]+size[1]), func(b *testing.B) {
			var m Marks
			b.ReportAllocs()
			for range b.N {
				g.AddBatch(&m, size[0], size[1], size[2], size[3])
			}
		})
	}
}

// BenchmarkJudge100k judges 100,000 series for harm and safety on one core.
func BenchmarkJudge100k(b *testing.B) {
	g := NewGrid()
	series := make([]Marks, 100_000)
	for i := range series {
		g.AddCell(&series[i], int64(i%13), int64(i%101), 0.1)
	}
	b.ResetTimer()
	for range b.N {
		found := 0
		for _, m := range series {
			if g.Harm(m) >= math.Log(100) || g.Safety(m, 0.25) >= math.Log(20) {
				found++
			}
		}
		if found == 0 {
			b.Fatal("nothing was found")
		}
	}
	b.ReportMetric(float64(b.Elapsed().Milliseconds())/float64(b.N), "ms/100k")
}

func BenchmarkInterval(b *testing.B) {
	g := NewGrid()
	var m Marks
	g.AddCell(&m, 30, 100, 0.1)
	for range b.N {
		g.Interval(m, 0.05)
	}
}

func BenchmarkEstimate(b *testing.B) {
	g := NewGrid()
	var m Marks
	g.AddCell(&m, 30, 100, 0.1)
	for range b.N {
		g.Estimate(m)
	}
}

// TestShortSums: short sums are the same by products and by quotients, up to the
// most sessions that are summed so.
func TestShortSums(t *testing.T) {
	g := NewGrid()
	rng := rand.New(rand.NewPCG(11, 1))
	for range 2000 {
		canary := 1 + rng.Int64N(1<<rng.IntN(32))
		baseline := 1 + rng.Int64N(1<<rng.IntN(32))
		x := 2 + rng.Int64N(14)
		if x > canary+baseline {
			continue
		}
		h := hypergeometric{canary: float64(canary), baseline: float64(baseline), failures: float64(x)}
		lo, hi := max(0, h.failures-h.baseline), min(h.failures, h.canary)
		n := int(hi-lo) + 1
		var a, b Marks
		p := h.products(make([]float64, n), lo)
		q := h.weights(make([]float64, n), lo, h.mode(lo, hi, 1))
		at := rng.IntN(n)
		g.addPolynomial(&a, p, float64(at))
		g.addPolynomial(&b, q, float64(at))
		for i := range a.LogL {
			if math.Abs(a.LogL[i]-b.LogL[i]) > 1e-12*(1+math.Abs(b.LogL[i])) {
				t.Fatalf("%d failures of %d and %d sessions: %v by products, %v by quotients", x, canary, baseline, a.LogL, b.LogL)
			}
		}
	}
}
