package agent

import (
	"strings"
	"testing"

	"understudy.dev/understudy/internal/failover"
	"understudy.dev/understudy/internal/wire"
)

// What a member exposes comes from its status alone, which is the same for every engine.
func TestExposition(t *testing.T) {
	s := wire.Status{Epoch: 7, Promise: 7, Serving: true, Position: failover.Position{Offset: 1 << 40}, Takeovers: make([]wire.Takeover, 2), GuardLatenessMicros: 1500}
	text := exposition(s, true)
	for name, value := range map[string]string{
		"epoch": "7", "promise": "7", "serving": "1", "eligible": "0", "engine_answers": "1", "lag_bytes": "0",
		"position_offset_bytes": "1.099511627776e+12", "takeovers": "2", "guard_lateness_seconds": "0.0015",
	} {
		line := "understudy_agent_" + name + " " + value + "\n"
		if !strings.Contains(text, "# TYPE understudy_agent_"+name+" gauge\n"+line) {
			t.Errorf("lacks %q:\n%s", line, text)
		}
	}
	if text := exposition(wire.Status{LagBytes: -1}, false); !strings.Contains(text, "engine_answers 0\n") || !strings.Contains(text, "lag_bytes -1\n") {
		t.Errorf("a member that knows nothing:\n%s", text)
	}
}
