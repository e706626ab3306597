package evalue

import (
	"fmt"
	"math"
	"slices"
)

// The alternatives of the two tests. They are spread evenly in the logarithm,
// near enough to one another that the test loses little against a ratio in
// between, and few, since each costs ln(number) of evidence. They were fixed
// before any data was seen and must never be chosen by looking at it.
var (
	harmRatios   = []float64{1.15, 1.3, 1.5, 2, 3, 5, 10}
	safetyRatios = []float64{1, 1 / 1.15, 1 / 1.5}
)

// Grid is a fixed, sorted set of hazard ratios (canary to baseline) at which
// likelihoods are kept. It never changes and is safe for concurrent use.
// [Marks] made with a grid belong to grids with the same ratios only.
type Grid struct {
	ratios []float64
	logs   []float64 // ln of ratios
	top    float64   // largest |ln ratio|
	harm   []int     // places of harmRatios
	safety []int     // places of safetyRatios
}

// NewGrid returns the grid of the ratios 2^(k/12) for k = -60..60, that is
// 1/32 to 32 in steps of 6 %, of exactly 1, of the alternatives of
// [Grid.Harm] and [Grid.Safety], and of the extra ratios. For Safety with a
// margin d give 1+d as an extra ratio. Extra ratios must be positive and
// finite; NewGrid panics with "BUG:" if not.
func NewGrid(extra ...float64) *Grid {
	ratios := slices.Concat(harmRatios, safetyRatios, extra)
	for k := -60; k <= 60; k++ {
		octave := (k+60)/12 - 5
		// Ldexp keeps the powers of two exact: 1 must be 1.
		ratios = append(ratios, math.Ldexp(math.Exp2(float64(k-12*octave)/12), octave))
	}
	slices.Sort(ratios)
	g := &Grid{ratios: slices.Compact(ratios)}
	for _, r := range g.ratios {
		if !(r > 0) || math.IsInf(r, 1) {
			panic(fmt.Sprintf("BUG: hazard ratio %v on a grid", r))
		}
		g.logs = append(g.logs, math.Log(r))
	}
	g.top = max(-g.logs[0], g.logs[len(g.logs)-1])
	for _, r := range harmRatios {
		g.harm = append(g.harm, g.place(r))
	}
	for _, r := range safetyRatios {
		g.safety = append(g.safety, g.place(r))
	}
	return g
}

// Ratios returns a copy of the grid's ratios, rising.
func (g *Grid) Ratios() []float64 { return slices.Clone(g.ratios) }

// place returns the index of a ratio that must be on the grid.
func (g *Grid) place(ratio float64) int {
	i, ok := slices.BinarySearch(g.ratios, ratio)
	if !ok {
		panic(fmt.Sprintf("BUG: hazard ratio %v is not on the grid: give it to NewGrid", ratio))
	}
	return i
}

// Marks is the sufficient state of one stream of marks: each mark, the first
// failure of a session, fell to the canary or to the baseline. It is plain
// data and may be kept as gob or JSON. The zero value is a stream without
// marks. A copy shares LogL with its original; Merge into the zero value makes
// one that does not.
type Marks struct {
	Canary   int64 // marks
	Baseline int64 // marks

	// LogL is the natural log of the likelihood of the marks at each ratio
	// of the grid, relative to ratio 1, where it is 0. It is concave in the
	// log of the ratio. Empty means 0 everywhere.
	LogL []float64
}

// NewMarks returns a stream without marks.
func (g *Grid) NewMarks() Marks { return Marks{LogL: make([]float64, len(g.ratios))} }

// Merge adds the marks of another stream on the same ratios: evidence that is
// independent given the past multiplies, and logs add. o keeps its memory. It
// panics with "BUG:" if the two belong to grids of different size.
func (m *Marks) Merge(o Marks) {
	m.Canary += o.Canary
	m.Baseline += o.Baseline
	if len(o.LogL) == 0 {
		return
	}
	m.fit(len(o.LogL))
	for i, l := range o.LogL {
		m.LogL[i] += l
	}
}

func (m *Marks) fit(n int) {
	if len(m.LogL) == 0 {
		m.LogL = make([]float64, n)
	}
	if len(m.LogL) != n {
		panic(fmt.Sprintf("BUG: marks of a grid of %d ratios, not %d", len(m.LogL), n))
	}
}

// Add folds one mark into m. share is the canary's share of the sessions that
// were at risk just before the mark, in [0,1]; it must be known before the
// mark is (predictable), or the evidence is not valid. Under hazard ratio r
// the mark is the canary's with probability share*r / (1-share+share*r), which
// is exact for failures in continuous time (the partial likelihood of Cox,
// 1972). At share 0 or 1 nothing could be compared: the mark is counted and
// carries no evidence. Add panics with "BUG:" if share is outside of [0,1].
func (g *Grid) Add(m *Marks, canary bool, share float64) {
	if !(share >= 0 && share <= 1) {
		panic(fmt.Sprintf("BUG: share of the canary %v", share))
	}
	m.fit(len(g.ratios))
	if canary {
		m.Canary++
	} else {
		m.Baseline++
	}
	if share == 0 || share == 1 {
		return
	}
	for i, r := range g.ratios {
		m.LogL[i] -= math.Log1p(share * (r - 1))
		if canary {
			m.LogL[i] += g.logs[i]
		}
	}
}
