package evalue

import "fmt"

// fewerMixture has the alternatives of [Grid.Fewer].
var fewerMixture = mixtureOf(map[float64]float64{1 / 1.25: 0.3, 1 / 1.8: 0.4, 1 / 2.7: 0.3})

// Fewer returns the log of the e-process against the null that the canary fails
// as often or more: that the ratio is at least 1 in every batch. It is the
// mixture of the likelihood ratios of 1/1.25, 1/1.8 and 1/2.7 against 1, with
// weights 0.3, 0.4 and 0.3. It is valid at any time, and 0 without marks.
func (g *Grid) Fewer(m Marks) (logE float64) { return mixture(&m, fewerMixture) }

// notFewerMixture has the alternatives of [Grid.NotFewer].
var notFewerMixture = mixtureOf(map[float64]float64{1: 0.6, 1.2: 0.25, 2: 0.15})

// MaxFewer is the largest margin of [Grid.NotFewer]: three quarters fewer.
const MaxFewer = 3

// NotFewer returns the log of the e-process against the null that the canary fails
// less by the margin or more: that the ratio is at most 1/(1+margin) in every
// batch. It is [Grid.Safety] turned around, for what is better the more of it
// there is: the mixture of the likelihood ratios of 1, 1.2 and 2 against
// 1/(1+margin), with weights 0.6, 0.25 and 0.15, each of which rises with the
// canary's failures. It is valid at any time, and 0 without marks. margin must be
// in (0, MaxFewer]: NotFewer panics with "BUG:" if not.
func (g *Grid) NotFewer(m Marks, margin float64) (logE float64) {
	if !(margin > 0 && margin <= MaxFewer) {
		panic(fmt.Sprintf("BUG: margin %v", margin))
	}
	return mixture(&m, notFewerMixture) - g.atMost(&m, 1/(1+margin))
}

// unlikeUp and unlikeDown are the alternatives of [Grid.Unlike].
var (
	unlikeUp   = mixtureOf(map[float64]float64{1.5: 0.4, 2: 0.3, 4.5: 0.2, 12: 0.1})
	unlikeDown = mixtureOf(map[float64]float64{1 / 1.8: 0.5, 1 / 2.7: 0.3, 1. / 4: 0.2})
)

// The ratios, both nodes, between which [Grid.Unlike] takes two arms as alike.
const (
	alikeBelow = 1.2
	alikeAbove = 1 / 1.25
)

// Unlike returns the log of the e-process against the null that the two arms
// are much alike: that the ratio lies between 1/1.25 and 1.2 in every batch. It
// is half of the mixture of the likelihood ratios of 1.5, 2, 4.5 and 12 against
// 1.2, and half of that of 1/1.8, 1/2.7 and 1/4 against 1/1.25; each has its
// largest expectation under the null at that end of it, where it is 1, since the
// likelihood ratio is monotone in the canary's failures (Lehmann & Romano, section
// 3.4). It is valid at any time, and 0 without marks. It is for what
// should not differ between arms, and always does a little.
func (g *Grid) Unlike(m Marks) (logE float64) {
	var lo, hi float64
	for i, r := range nodes {
		switch r {
		case alikeBelow:
			hi = m.LogL[i]
		case alikeAbove:
			lo = m.LogL[i]
		}
	}
	return Mean([]float64{mixture(&m, unlikeUp) - hi, mixture(&m, unlikeDown) - lo}, []float64{0.5, 0.5})
}
