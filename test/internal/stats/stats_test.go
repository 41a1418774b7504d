package stats

import "testing"

func TestPercentilesAreMeasuredNumbers(t *testing.T) {
	var values []float64
	for i := 100; i > 0; i-- {
		values = append(values, float64(i))
	}
	want := Summary{Count: 100, P50: 50, P90: 90, P99: 99, Max: 100}
	if got := Of(values); got != want {
		t.Errorf("of 1 to 100: %+v, want %+v", got, want)
	}
	if got := Of([]float64{7}); got != (Summary{Count: 1, P50: 7, P90: 7, P99: 7, Max: 7}) {
		t.Errorf("of one number: %+v", got)
	}
	if got := Of(nil); got != (Summary{}) {
		t.Errorf("of nothing: %+v", got)
	}
}
