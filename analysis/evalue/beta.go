package evalue

import (
	"fmt"
	"math"
)

// BetaMixture is a test of a known probability, tuned to be tightest at some
// number of trials. It is what tests of quantiles are built of. Make it with
// [NewBetaMixture]; it never changes.
type BetaMixture struct {
	p, logP, logQ  float64
	a, b, logPrior float64
}

// tunedLevel is the level at which a mixture is tightest at its number of
// trials; other levels are near to it.
const tunedLevel = 0.05

// NewBetaMixture returns the test of the null that each trial succeeds with
// probability p, given the past. p must be in (0,1) and trials, at which it is
// tightest, at least 1: NewBetaMixture panics with "BUG:" if not.
//
// The e-process is the mixture of likelihood ratios over a Beta(r/(1-p), r/p)
// prior, whose mean is p. r is chosen as for the normal mixture of the same
// variance (Howard, Ramdas, McAuliffe & Sekhon, Time-uniform, nonparametric,
// nonasymptotic confidence sequences, Ann. Statist. 49, 2021: propositions 3
// and 7 in its list of conjugate mixtures; package confseq,
// beta_binomial_log_mixture).
func NewBetaMixture(p float64, trials int64) *BetaMixture {
	if !(p > 0 && p < 1) || trials < 1 {
		panic(fmt.Sprintf("BUG: a mixture for probability %v and %d trials", p, trials))
	}
	v := p * (1 - p)
	r := max(normalRho(v*float64(trials), tunedLevel)-v, 1e-3*v)
	m := &BetaMixture{p: p, logP: math.Log(p), logQ: math.Log1p(-p), a: r / (1 - p), b: r / p}
	m.logPrior = logBeta(m.a, m.b)
	return m
}

// LogE returns the log of the e-process after some successes of some trials:
//
//	ln [B(a+k, b+n-k) / B(a,b)] - k ln p - (n-k) ln(1-p)
//
// It is valid at any time, convex in k, and lowest near k = np. It panics with
// "BUG:" unless 0 <= successes <= trials. It takes about 100 ns.
func (m *BetaMixture) LogE(successes, trials int64) float64 {
	if successes < 0 || successes > trials {
		panic(fmt.Sprintf("BUG: %d successes of %d trials", successes, trials))
	}
	k, rest := float64(successes), float64(trials-successes)
	return logBeta(m.a+k, m.b+rest) - m.logPrior - k*m.logP - rest*m.logQ
}

// lowest returns the number of successes at which the evidence of some trials
// is least.
func (m *BetaMixture) lowest(trials int64) int64 {
	lo, hi := int64(0), trials
	for lo < hi {
		mid := lo + (hi-lo)/2
		if m.LogE(mid, trials) <= m.LogE(mid+1, trials) {
			hi = mid
		} else {
			lo = mid + 1
		}
	}
	return lo
}

// ProportionInterval returns a confidence sequence for the success probability
// of independent trials: with probability at least 1-alpha it holds the true
// one at all times at once. It inverts [BetaMixture.LogE] in p, to within
// 1e-10. tuned is the number of trials at which it is tightest. It panics with
// "BUG:" unless 0 <= successes <= trials, tuned >= 1 and alpha is in (0,1).
func ProportionInterval(successes, trials, tuned int64, alpha float64) (lo, hi float64) {
	if !(alpha > 0 && alpha < 1) {
		panic(fmt.Sprintf("BUG: alpha %v", alpha))
	}
	excess := func(p float64) float64 {
		return NewBetaMixture(p, tuned).LogE(successes, trials) + math.Log(alpha)
	}
	if trials == 0 {
		return 0, 1
	}
	// The evidence falls up to about the estimate, and rises from there.
	mid := min(max(float64(successes)/float64(trials), 1e-12), 1-1e-12)
	edge := func(out float64) float64 {
		if excess(min(max(out, 1e-12), 1-1e-12)) < 0 {
			return out
		}
		in := mid
		for range 60 {
			if p := (out + in) / 2; excess(p) < 0 {
				in = p
			} else {
				out = p
			}
		}
		return out
	}
	return edge(0), edge(1)
}

// normalRho returns the parameter of a normal mixture that is tightest at
// variance v at some level (Howard et al., 2021, section 3.5).
func normalRho(v, alpha float64) float64 {
	return v / (-2*math.Log(alpha) + math.Log1p(-2*math.Log(alpha)))
}

// logBeta returns ln B(a,b).
func logBeta(a, b float64) float64 {
	la, _ := math.Lgamma(a)
	lb, _ := math.Lgamma(b)
	lab, _ := math.Lgamma(a + b)
	return la + lb - lab
}
