package evalue

import (
	"fmt"
	"math"
	"slices"
)

// points is how many likelihoods [Marks] keeps; that at ratio 1 is 0 and not
// kept. Between the first of them, spanned, others are interpolated.
const (
	points  = 14
	spanned = 13
)

// nodes are the hazard ratios at which likelihoods are kept. The alternatives of
// all mixtures are among them, so that these are exact. The others are placed so
// that what lies between 1/4 and 12 can be interpolated: denser toward the ends,
// as Chebyshev's are. 40 stands apart, for what is broken altogether. They were
// fixed before any data was seen and must never be chosen by looking at it.
var nodes = [points]float64{
	1. / 4, 1 / 3.3, 1 / 2.7, 1 / 1.8, 1 / 1.25,
	1.2, 1.5, 2, 3, 4.5, 8, 10.5, 12,
	40,
}

// interpolationError bounds the error, in nats per mark, of a log likelihood
// that is interpolated between the nodes. The largest, over ratios in [1/4, 12]
// and all shares, is 8.6e-8 (TestInterpolation searches for it).
const interpolationError = 1e-7

// fine is how many ratios, spread evenly in the log over the span of the
// nodes, [Grid.Interval] and [Grid.Estimate] look at: in steps of 3 %.
const fine = 128

// Grid holds what is common to all [Marks]: the hazard ratios (canary to
// baseline) at which likelihoods are kept, and the coefficients that
// interpolate between them. It never changes and is safe for concurrent use.
type Grid struct {
	logs  [points]float64 // ln of nodes
	above [points]float64 // nodes less 1

	weights [points]float64 // barycentric, of the nodes
	center  float64         // and of ratio 1

	fineLogs   [fine]float64
	fineCoefs  [fine][points]float64
	fineWeight [fine]float64 // ln of the weights of Interval's mixture
}

// NewGrid returns the grid.
func NewGrid() *Grid {
	g := &Grid{}
	for i, r := range nodes {
		g.logs[i] = math.Log(r)
		g.above[i] = r - 1
	}
	g.center = 1
	for i, x := range g.logs[:spanned] {
		g.center /= -x
		g.weights[i] = 1 / x // the factor of ratio 1, whose log is 0
		for j, y := range g.logs[:spanned] {
			if j != i {
				g.weights[i] /= x - y
			}
		}
	}
	total := 0.0
	lo, hi := g.logs[0], g.logs[spanned-1]
	for k := range fine {
		t := lo + (hi-lo)*float64(k)/(fine-1)
		g.fineLogs[k] = t
		g.fineCoefs[k] = g.coefficients(t)
		// A Cauchy shape: most of the weight near no effect, tails that
		// cost few nats.
		w := 1 / (1 + 4*t*t)
		g.fineWeight[k] = w
		total += w
	}
	for k := range fine {
		g.fineWeight[k] = math.Log(g.fineWeight[k] / total)
	}
	return g
}

// Ratios returns a copy of the ratios at which likelihoods are kept, rising. 1
// is not among them. All but the last, 40, span the ratios that an interval can
// have.
func (g *Grid) Ratios() []float64 { return slices.Clone(nodes[:]) }

// coefficients returns Lagrange's coefficients at the log ratio t, for the
// nodes from 1/4 to 12 and ratio 1, in their barycentric form (Berrut & Trefethen, SIAM Review
// 46, 2004, equation 4.2). That of ratio 1 is left out, since the likelihood
// there is 0. At a node they pick its value.
func (g *Grid) coefficients(t float64) (c [points]float64) {
	if t == 0 {
		return c
	}
	sum := g.center / t
	for i, x := range g.logs[:spanned] {
		if t == x {
			c = [points]float64{}
			c[i] = 1
			return c
		}
		c[i] = g.weights[i] / (t - x)
		sum += c[i]
	}
	for i := range c {
		c[i] /= sum
	}
	return c
}

// Marks is the sufficient state of one stream of marks: each mark, the first
// failure of a session, fell to the canary or to the baseline. It takes 128 B
// and no memory elsewhere. It is plain data and may be copied, and kept as gob
// or JSON. The zero value is a stream without marks.
type Marks struct {
	Canary   int64 // marks
	Baseline int64 // marks

	// LogL is the natural log of the likelihood of the marks at each of
	// [Grid.Ratios], relative to ratio 1, where it is 0. It is concave in
	// the log of the ratio.
	LogL [points]float64
}

// NewMarks returns a stream without marks.
func (g *Grid) NewMarks() Marks { return Marks{} }

// Merge adds the marks of another stream: evidence that is independent given
// the past multiplies, and logs add.
func (m *Marks) Merge(o Marks) {
	m.Canary += o.Canary
	m.Baseline += o.Baseline
	for i, l := range o.LogL {
		m.LogL[i] += l
	}
}

// at returns the log likelihood of the marks by Lagrange coefficients. It is
// within m.slack() of the true one.
func (m *Marks) at(c *[points]float64) float64 {
	sum := 0.0
	for i, l := range m.LogL {
		sum += c[i] * l
	}
	return sum
}

// slack bounds the error of [Marks.at]. The log likelihood of x marks, also of
// a batch, is a sum of x terms ln(1-s+s*r) and of a multiple of ln r, which is
// interpolated without error: the polynomial of [Grid.AddBatch] has real roots
// only (Vatutin & Mikhailov, 1982), so it is a product of such terms.
func (m *Marks) slack() float64 {
	return interpolationError * float64(m.Canary+m.Baseline)
}

// Add folds one mark into m. share is the canary's share of the sessions that
// were at risk just before the mark, in [0,1]; it must be known before the
// mark is (predictable), or the evidence is not valid. Under hazard ratio r
// the mark is the canary's with probability share*r / (1-share+share*r), which
// is exact for failures in continuous time (the partial likelihood of Cox,
// 1972). At share 0 or 1 nothing could be compared: the mark is counted and
// carries no evidence. Add panics with "BUG:" if share is outside of [0,1]. It
// allocates nothing.
func (g *Grid) Add(m *Marks, canary bool, share float64) {
	if canary {
		g.AddCell(m, 1, 0, share)
	} else {
		g.AddCell(m, 0, 1, share)
	}
}

// AddCell folds the failures of one cell into m: those of the sessions of one
// stratum that began in the same minute. share is the canary's share of the
// exposures of the cell, in [0,1], known before the failures.
//
// Given how many failures there are, x, the canary's are binomial with
// probability share*r / (1-share+share*r) at rate ratio r: exactly so if
// failures in both arms are Poisson counts given the exposures (Przyborowski &
// Wilenski, 1940). The factor of ratio r against 1 is
//
//	r^canary / (1-share+share*r)^x
//
// Where each session fails at most once the canary's part is hypergeometric at
// ratio 1, which is dominated by this binomial in convex order (Hoeffding, J.
// Amer. Statist. Assoc. 58, 1963, theorem 4). So harm stays valid and loses
// power as failures become frequent; safety is then not exact. [Grid.AddBatch]
// is exact there for both.
//
// AddCell panics with "BUG:" if a count is negative or share is outside of
// [0,1]. It takes less than 100 ns and allocates nothing.
func (g *Grid) AddCell(m *Marks, canary, baseline int64, share float64) {
	if !(share >= 0 && share <= 1) {
		panic(fmt.Sprintf("BUG: share of the canary %v", share))
	}
	if canary < 0 || baseline < 0 {
		panic(fmt.Sprintf("BUG: %d canary and %d baseline failures", canary, baseline))
	}
	m.Canary += canary
	m.Baseline += baseline
	if share == 0 || share == 1 || canary+baseline == 0 {
		return
	}
	x, n := float64(canary), float64(canary+baseline)
	var norm [points]float64
	for i, a := range g.above {
		norm[i] = 1 + share*a
	}
	logs(&norm)
	for i, l := range norm {
		m.LogL[i] += x*g.logs[i] - n*l
	}
}
