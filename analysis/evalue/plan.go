package evalue

import (
	"fmt"
	"math"
)

// MarksNeeded returns about how many marks, of both arms together, [Grid.Harm]
// needs to reach 1/alpha if the hazard ratio is ratio and the canary has share
// of the sessions at risk: Wald's ln(1/alpha) over the mean evidence of a mark
// (Wald, Sequential Analysis, 1947). That is the mean for a test that knows
// the ratio; the mixture needs some 12 to 56 % more (TestTuning). It is +Inf where marks
// carry no evidence: ratio 1, or share 0 or 1. It panics with "BUG:" if share
// is outside of [0,1], ratio is not positive, or alpha is not in (0,1).
func MarksNeeded(share, ratio, alpha float64) float64 {
	checkPlan(share, alpha)
	if !(ratio > 0) {
		panic(fmt.Sprintf("BUG: hazard ratio %v", ratio))
	}
	return needed(information(share, math.Log(ratio)), alpha)
}

// SafetyMarksNeeded returns about how many marks, of both arms together,
// [Grid.Safety] needs to reach 1/beta if the canary is as good as the baseline
// (hazard ratio 1) and has share of the sessions at risk. It is an estimate as
// [MarksNeeded] is. For [Grid.NotFewer] give the margin as 1/(1+margin)-1, which is
// negative. It panics with "BUG:" if share is outside of [0,1], margin
// is 0 or not above -1, or beta is not in (0,1).
func SafetyMarksNeeded(share, margin, beta float64) float64 {
	checkPlan(share, beta)
	if !(margin > -1) || margin == 0 {
		panic(fmt.Sprintf("BUG: margin %v", margin))
	}
	// The divergence of the null's edge from the truth, the other way round.
	return needed(math.Log1p(share*margin)-share*math.Log1p(margin), beta)
}

// DetectableRatio returns the smallest hazard ratio above 1 that the number of
// marks suffices for, by [MarksNeeded]. It is +Inf if no ratio is: even if all
// marks fell to the canary they would not be enough. It panics with "BUG:" if
// share is outside of [0,1], marks is negative, or alpha is not in (0,1).
func DetectableRatio(share, marks, alpha float64) float64 {
	checkPlan(share, alpha)
	if !(marks >= 0) {
		panic(fmt.Sprintf("BUG: %v marks", marks))
	}
	// Information rises with the log of the ratio, to ln(1/share).
	lo, hi := 0.0, 300.0
	if share == 1 || needed(information(share, hi), alpha) > marks {
		return math.Inf(1)
	}
	for range 60 {
		mid := (lo + hi) / 2
		if needed(information(share, mid), alpha) > marks {
			lo = mid
		} else {
			hi = mid
		}
	}
	return math.Exp(hi)
}

// information returns the Kullback-Leibler divergence per mark, in nats, of
// the law of marks at a log hazard ratio from that at 0.
func information(share, logRatio float64) float64 {
	if share == 0 || share == 1 {
		return 0
	}
	total := math.Log1p(share * math.Expm1(logRatio))
	canary := share * math.Exp(logRatio-total)
	return canary*logRatio - total
}

func needed(information, alpha float64) float64 {
	if information <= 0 {
		return math.Inf(1)
	}
	return -math.Log(alpha) / information
}

func checkPlan(share, alpha float64) {
	if !(share >= 0 && share <= 1) || !(alpha > 0 && alpha < 1) {
		panic(fmt.Sprintf("BUG: share of the canary %v, alpha %v", share, alpha))
	}
}
