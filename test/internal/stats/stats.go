// Package stats sums numbers up.
package stats

import (
	"math"
	"slices"
)

// Summary of a set of numbers.
type Summary struct {
	Count int     `json:"count"`
	P50   float64 `json:"p50"`
	P90   float64 `json:"p90"`
	P99   float64 `json:"p99"`
	Max   float64 `json:"max"`
}

// Of sums up. A percentile is the smallest number that at least that part of all does not exceed (nearest rank), so
// that it is always a number that was measured: the p99 of fifty is their maximum.
func Of(values []float64) Summary {
	sorted := slices.Sorted(slices.Values(values))
	return Summary{
		Count: len(sorted), P50: rank(sorted, 0.5), P90: rank(sorted, 0.9), P99: rank(sorted, 0.99), Max: rank(sorted, 1),
	}
}

// Median of numbers; 0 of none.
func Median(values []float64) float64 { return Of(values).P50 }

func rank(sorted []float64, part float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[max(0, int(math.Ceil(part*float64(len(sorted))))-1)]
}
