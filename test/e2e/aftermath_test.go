//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	naming "understudy.dev/understudy/internal/names"
	"understudy.dev/understudy/test/internal/faults"
)

// failures are what ended tests that waited for something in vain, for the end of a long output: what a test says itself is far above by then.
var failures struct {
	sync.Mutex
	list []string
}

func must(t *testing.T, err error) {
	t.Helper()
	if err == nil {
		return
	}
	failures.Lock()
	failures.list = append(failures.list, t.Name()+": "+err.Error())
	failures.Unlock()
	t.Fatal(err)
}

// aftermath tells how a failed test left its namespace. What says most comes last: whoever shortens an output cuts its middle.
func aftermath(t *testing.T, namespace string) {
	t.Helper()
	const condition = `{range .status.conditions[*]}{"  "}{.type}={.status} {.reason}: {.message}{"\n"}{end}`
	t.Logf("namespace %s is left as it is:\n%s", namespace, ask("get", "events", "-n", namespace, "--field-selector=type=Warning"))
	t.Logf("operator, of this namespace:\n%s", operatorSays(namespace))
	for _, pod := range strings.Fields(ask("get", "pods", "-n", namespace, "-l", "app.kubernetes.io/managed-by=understudy", "-o", "name")) {
		t.Logf("%s:\n%s", pod, shortened(ask("logs", pod, "-n", namespace, "-c", naming.EngineContainer, "--tail=12"), 12))
	}
	t.Log(ask("get", "rsvc,fo,pods,endpointslices", "-n", namespace))
	t.Log(ask("get", "fo", "-n", namespace, "-o", `jsonpath={range .items[*]}{.metadata.name}{"\n"}`+condition+`{end}`))
	t.Log(ask("get", "rsvc", "-n", namespace, "-o", `jsonpath={range .items[*]}{.metadata.name} {.status.members}{"\n"}`+condition+`{end}`))
	failures.Lock()
	defer failures.Unlock()
	t.Logf("what ended tests that waited:\n%s", strings.Join(failures.list, "\n"))
}

// ask is kubectl for what is nice to know: it does not wait long, and an error is an answer too.
func ask(args ...string) string {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, faults.KubectlIn(repository).Path, args...).CombinedOutput()
	if err != nil {
		return fmt.Sprintf("%s(%v)", out, err)
	}
	return string(out)
}

// operatorSays is what the operators logged of a namespace last.
func operatorSays(namespace string) string {
	var of []string
	for line := range strings.Lines(ask("logs", "-n", "understudy-system", "-l", "app.kubernetes.io/name=understudy", "--tail=400")) {
		if strings.Contains(line, `"`+namespace+`/`) {
			of = append(of, line)
		}
	}
	return shortened(strings.Join(of, ""), 12)
}

// shortened is the end of a log, each line as long as a person reads.
func shortened(log string, lines int) string {
	all := strings.Split(strings.TrimRight(log, "\n"), "\n")
	all = all[max(0, len(all)-lines):]
	for i, line := range all {
		all[i] = line[:min(len(line), 600)]
	}
	return strings.Join(all, "\n")
}
