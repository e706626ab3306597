package evalue

import (
	"math"
	"testing"
)

// TestUnlikeExpectation enumerates the outcomes of a batch at ratios of the
// null: the expected factor is at most 1, and at both ends each half is 1.
func TestUnlikeExpectation(t *testing.T) {
	g := NewGrid()
	for _, c := range []struct{ canary, baseline, failures int64 }{{1, 9, 1}, {5, 5, 4}, {3, 40, 12}, {60, 60, 50}, {10, 2, 12}} {
		for _, r := range []float64{alikeAbove, 0.9, 1, 1.1, alikeBelow} {
			sum, total := 0.0, 0.0
			for k := max(0, c.failures-c.baseline); k <= min(c.failures, c.canary); k++ {
				p := math.Exp(lchoose(c.canary, k) + lchoose(c.baseline, c.failures-k) + float64(k)*math.Log(r))
				var m Marks
				g.AddBatch(&m, k, c.failures-k, c.canary, c.baseline)
				sum += p * math.Exp(g.Unlike(m))
				total += p
			}
			if r >= 1 {
				fewer := 0.0
				for k := max(0, c.failures-c.baseline); k <= min(c.failures, c.canary); k++ {
					var m Marks
					g.AddBatch(&m, k, c.failures-k, c.canary, c.baseline)
					fewer += math.Exp(lchoose(c.canary, k)+lchoose(c.baseline, c.failures-k)+float64(k)*math.Log(r)+g.Fewer(m)) / total
				}
				if fewer > 1+1e-9 {
					t.Errorf("fewer of %+v at ratio %v: expectation %v", c, r, fewer)
				}
			}
			if e := sum / total; e > 1+1e-9 {
				t.Errorf("%+v at ratio %v: expectation %v", c, r, e)
			}
		}
	}
	if e := g.Unlike(g.NewMarks()); math.Abs(e) > 1e-12 {
		t.Errorf("without marks: %v", e)
	}
}

func TestUnlikeFinds(t *testing.T) {
	g := NewGrid()
	up, down, alike := g.NewMarks(), g.NewMarks(), g.NewMarks()
	for range 50 {
		g.AddBatch(&up, 8, 5, 50, 50)
		g.AddBatch(&down, 4, 8, 50, 50)
		g.AddBatch(&alike, 6, 6, 50, 50)
	}
	if u, d, a := g.Unlike(up), g.Unlike(down), g.Unlike(alike); u < 2 || d < 2 || a > 0 {
		t.Errorf("up %v, down %v, alike %v", u, d, a)
	}
}

func lchoose(n, k int64) float64 {
	a, _ := math.Lgamma(float64(n + 1))
	b, _ := math.Lgamma(float64(k + 1))
	c, _ := math.Lgamma(float64(n - k + 1))
	return a - b - c
}

// TestNotFewer: under its null, which it enumerates, the expectation is at most 1,
// and at the edge 1 but for what interpolation gives away.
func TestNotFewer(t *testing.T) {
	g := NewGrid()
	for _, c := range []struct{ canary, baseline, failures int64 }{{1, 9, 1}, {5, 5, 4}, {3, 40, 12}, {60, 60, 50}, {10, 2, 12}} {
		for _, margin := range []float64{0.1, 0.25, 0.5, 3} {
			for _, r := range []float64{1 / (1 + margin), 0.7 / (1 + margin), 0.2} {
				if r > 1/(1+margin) {
					continue
				}
				sum, total := 0.0, 0.0
				for k := max(0, c.failures-c.baseline); k <= min(c.failures, c.canary); k++ {
					p := math.Exp(lchoose(c.canary, k) + lchoose(c.baseline, c.failures-k) + float64(k)*math.Log(r))
					var m Marks
					g.AddBatch(&m, k, c.failures-k, c.canary, c.baseline)
					sum += p * math.Exp(g.NotFewer(m, margin))
					total += p
				}
				if e := sum / total; e > 1+1e-9 || r == 1/(1+margin) && e < 1-3*interpolationError*float64(c.failures) {
					t.Errorf("%+v, margin %v, at ratio %v: expectation %v", c, margin, r, e)
				}
			}
		}
	}
	if e := g.NotFewer(g.NewMarks(), 0.5); math.Abs(e) > 1e-12 {
		t.Errorf("without marks: %v", e)
	}
	for _, margin := range []float64{0, -1, 3.1, math.NaN()} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("margin %v is taken", margin)
				}
			}()
			g.NotFewer(g.NewMarks(), margin)
		}()
	}
}
