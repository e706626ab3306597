package evalue

import (
	"fmt"
	"math"
)

// hurtShares are the shares of tenants that [SomeOf] supposes to be hurt.
var hurtShares = [...]float64{1, 1. / 8, 1. / 64, 1. / 512, 1. / 4096}

// Average returns the log of the mean of e-values, an e-value whatever their
// dependence (Vovk & Wang, Ann. Statist. 49, 2021, section 3) under the null
// that all their nulls hold: evidence that some tenant is hurt, where it is
// known before how many there are. One of n needs ln n more evidence than it
// would alone. Without e-values it is 0. Average panics with "BUG:" if one is
// NaN.
func Average(logEs []float64) (logE float64) {
	if len(logEs) == 0 {
		return 0
	}
	weights := make([]float64, len(logEs))
	for i := range weights {
		weights[i] = 1 / float64(len(logEs))
	}
	return Mean(logEs, weights)
}

// SomeOf returns the log of an e-value against the null that no tenant is hurt,
// from those of tenants who share no sessions. It is the mixture, over shares s
// of 1, 1/8, 1/64, 1/512 and 1/4096, of
//
//	product over tenants of (1 - s + s e)
//
// which is the average over all sets of tenants of the product of their
// e-values, a set of k of n having weight s^k (1-s)^(n-k). The evidence of
// tenants who share no sessions multiplies, so each factor is one of a product
// of e-processes (Vovk & Wang, 2021, section 4: sequential e-values). It needs
// not be known how many tenants there will be: one without marks has the
// e-value 1 and the factor 1. Against one tenant of many it needs some 2 nats
// more than [Average], against many far less. Where tenants are hurt by the
// same ratio the harm of their merged [Marks] is better still.
//
// SomeOf is 0 without e-values and panics with "BUG:" if one is NaN.
func SomeOf(logEs []float64) (logE float64) {
	var products, weights [len(hurtShares)]float64
	for k, s := range hurtShares {
		weights[k] = 1. / float64(len(hurtShares))
		for _, e := range logEs {
			if math.IsNaN(e) {
				panic(fmt.Sprintf("BUG: an e-value is %v", e))
			}
			products[k] += logFactor(s, e)
		}
	}
	return Mean(products[:], weights[:])
}

// logFactor returns ln(1 - s + s exp(e)).
func logFactor(s, e float64) float64 {
	if e <= 0 {
		return math.Log1p(s * math.Expm1(e))
	}
	return e + math.Log(s+(1-s)*math.Exp(-e))
}
