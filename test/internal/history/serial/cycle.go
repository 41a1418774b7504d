package serial

// search is for circles that have one edge of once, all others being of along.
type search struct {
	name        Name
	once, along why
	kind        kind
}

// kind says what a circle needs to close.
type kind uint8

const (
	timeless kind = iota
	realTime
	staleRead
)

// searches in the order from worst to least: a group of transactions is told of once.
var searches = []search{
	{G0, ww, ww, timeless},
	{G1c, wr, ww | wr, timeless},
	{GSingle, rw, ww | wr, timeless},
	{G2, rw, ww | wr | rw, timeless},
	{G0, rt, ww | rt, realTime},
	{G1c, rt, ww | wr | rt, realTime},
	{GSingle, rw, ww | wr | rt, realTime},
	{G2, rt, ww | wr | rw | rt, realTime},
	{GSingle, fresh, ww | wr | rw | rt | fresh, staleRead},
}

// tries bounds how many circles are compared to tell of the shortest.
const tries = 200

// step is an edge and where it begins.
type step struct {
	from int
	edge
}

// report tells of one circle in each group of transactions that a search finds, and takes the group out of the graph.
func (c *checker) report(g graph, s search) {
	for _, group := range g.groups(s.once | s.along) {
		circle := g.circle(group, s)
		if circle == nil {
			continue
		}
		found := &c.result.Anomalies
		switch s.kind {
		case realTime:
			found = &c.result.RealTime
		case staleRead:
			found = &c.result.StaleReads
		}
		if len(*found) < 4*most {
			*found = append(*found, Anomaly{s.name, c.tellCircle(circle)})
		}
		for _, at := range group {
			g[at] = nil
		}
	}
}

// circle is the shortest of those that it tries.
func (g graph) circle(group []int, s search) []step {
	in := map[int]bool{}
	for _, at := range group {
		in[at] = true
	}
	var best []step
	tried := 0
	for _, from := range group {
		for _, e := range g[from] {
			if e.why != s.once || !in[e.to] || best != nil && tried >= tries {
				continue
			}
			tried++
			back := g.path(e.to, from, s.along, in)
			if back != nil && (best == nil || len(back)+1 < len(best)) {
				best = append([]step{{from, e}}, back...)
			}
		}
	}
	return best
}

// path is the shortest way from one transaction to another within a group.
func (g graph) path(from, to int, along why, in map[int]bool) []step {
	came := map[int]step{}
	for todo := []int{from}; len(todo) > 0; todo = todo[1:] {
		at := todo[0]
		for _, e := range g[at] {
			if _, seen := came[e.to]; seen || e.why&along == 0 || !in[e.to] || e.to == from {
				continue
			}
			came[e.to] = step{at, e}
			if e.to == to {
				return trace(came, from, to)
			}
			todo = append(todo, e.to)
		}
	}
	return nil
}

func trace(came map[int]step, from, to int) []step {
	var back []step
	for at := to; at != from; at = came[at].from {
		back = append([]step{came[at]}, back...)
	}
	return back
}

// groups are the sets of two or more transactions each of which is reached from each other one (Tarjan).
func (g graph) groups(along why) [][]int {
	t := tarjan{graph: g, along: along, number: make([]int, len(g)), low: make([]int, len(g)), on: make([]bool, len(g))}
	for at := range g {
		if t.number[at] == 0 {
			t.visit(at)
		}
	}
	return t.groups
}

type tarjan struct {
	graph       graph
	along       why
	count       int
	number, low []int
	on          []bool
	stack       []int
	groups      [][]int
}

func (t *tarjan) visit(at int) {
	t.count++
	t.number[at], t.low[at] = t.count, t.count
	t.stack = append(t.stack, at)
	t.on[at] = true
	for _, e := range t.graph[at] {
		switch {
		case e.why&t.along == 0:
		case t.number[e.to] == 0:
			t.visit(e.to)
			t.low[at] = min(t.low[at], t.low[e.to])
		case t.on[e.to]:
			t.low[at] = min(t.low[at], t.number[e.to])
		}
	}
	if t.low[at] == t.number[at] {
		t.pop(at)
	}
}

// pop takes the group that was entered at a transaction off the stack.
func (t *tarjan) pop(root int) {
	for i := len(t.stack) - 1; ; i-- {
		t.on[t.stack[i]] = false
		if t.stack[i] != root {
			continue
		}
		if group := t.stack[i:]; len(group) > 1 {
			t.groups = append(t.groups, append([]int{}, group...))
		}
		t.stack = t.stack[:i]
		return
	}
}
