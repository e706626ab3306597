package evalue

import (
	"cmp"
	"fmt"
	"math"
	"slices"
)

// EBH returns the indices of the e-values that the e-BH procedure rejects, the
// strongest first: the k largest, for the largest k whose k-th e-value is at
// least n/(alpha k). Among the rejected, the expected share of true nulls
// (false discovery rate) is at most alpha under any dependence (Wang & Ramdas,
// 2022).
//
// Give it the current values of e-processes, at one stopping time. It must not
// be given running maxima: those are not e-values, and the guarantee fails for
// them (Tavyrikov, Goeman & de Heide, 2025). For the same reason a list that
// was once rejected is not to be latched. EBH panics with "BUG:" if alpha is
// not in (0,1) or an e-value is NaN.
func EBH(logEs []float64, alpha float64) []int {
	if !(alpha > 0 && alpha < 1) {
		panic(fmt.Sprintf("BUG: alpha %v", alpha))
	}
	order := make([]int, len(logEs))
	for i := range order {
		if math.IsNaN(logEs[i]) {
			panic("BUG: an e-value is NaN")
		}
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(logEs[b], logEs[a]) })
	for k := len(order); k > 0; k-- {
		if logEs[order[k-1]] >= math.Log(float64(len(order))/(alpha*float64(k))) {
			return order[:k]
		}
	}
	return nil
}
