package antientropy

import "testing"

// BenchmarkSession is a session of two replicas of a million keys: what both
// sides together compute.
func BenchmarkSession(b *testing.B) {
	for _, c := range []struct {
		name string
		d    int
	}{{"d=1", 1}, {"d=100", 100}, {"d=10000", 10_000}} {
		b.Run(c.name, func(b *testing.B) {
			s := usersShape()
			base := &sessionPair{a: newTestReplica(s), b: newTestReplica(s)}
			base.scatter(s, c.d, false)
			base.prepare()
			var bytes int64
			b.ReportAllocs()
			for b.Loop() {
				b.StopTimer()
				p := &sessionPair{a: base.a.clone(), b: base.b.clone(), mode: Repair}
				b.StartTimer()
				r, _ := p.run(b)
				bytes = r.BytesIn + r.BytesOut
			}
			b.ReportMetric(float64(bytes), "wire-B/op")
		})
	}
}
