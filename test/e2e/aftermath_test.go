//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	naming "understudy.dev/understudy/internal/names"
)

// failures are what ended each test, for the end of a long output: what a test says itself is far above by then.
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
	ask := func(args ...string) string {
		out, _ := kubectl(t, "", append(args, "-n", namespace)...)
		return out
	}
	pods := strings.Fields(ask("get", "pods", "-l", "app.kubernetes.io/managed-by=understudy", "-o", "name"))
	out := []string{ask("get", "events", "--field-selector=type=Warning"), operatorSays(t, namespace)}
	for _, pod := range pods {
		out = append(out, pod+":", shortened(ask("logs", pod, "-c", naming.EngineContainer, "--tail=12"), 12))
	}
	out = append(out, ask("get", "rsvc,fo,pods,endpointslices"),
		ask("get", "fo", "-o", `jsonpath={range .items[*]}{.metadata.name}{"\n"}`+condition+`{end}`),
		ask("get", "rsvc", "-o", `jsonpath={range .items[*]}{.metadata.name} {.status.members}{"\n"}`+condition+`{end}`))
	failures.Lock()
	defer failures.Unlock()
	t.Logf("namespace %s is left as it is:\n%s\nwhat ended the tests:\n%s", namespace, strings.Join(out, "\n"), strings.Join(failures.list, "\n"))
}

// operatorSays is what the operators logged of a namespace last.
func operatorSays(t *testing.T, namespace string) string {
	t.Helper()
	all, _ := kubectl(t, "", "logs", "-n", "understudy-system", "-l", "app.kubernetes.io/name=understudy", "--tail=400", "--prefix")
	var of []string
	for line := range strings.Lines(all) {
		if strings.Contains(line, namespace) {
			of = append(of, line)
		}
	}
	return fmt.Sprintf("operator, of this namespace:\n%s", shortened(strings.Join(of, ""), 12))
}

// shortened is the end of a log, each line as long as a person reads.
func shortened(log string, lines int) string {
	all := strings.Split(strings.TrimRight(log, "\n"), "\n")
	all = all[max(0, len(all)-lines):]
	for i, line := range all {
		all[i] = line[:min(len(line), 400)]
	}
	return strings.Join(all, "\n")
}
