// The agent's binary: PID 1 of the engine's container, its guard, the init container that installs it, and two small
// tools for people inside the pod.
package main

import (
	"fmt"
	"os"
)

const usage = `usage: understudy-agent COMMAND

  run             supervise the engine of this pod (PID 1 of its container)
  install DIR     copy this binary to DIR (init container)
  status          print what this member knows of itself, as JSON
  crash engine    kill the engine's processes, to rehearse a failover
  crash agent     end this agent without any goodbye, to rehearse a failover
`

func main() {
	if err := dispatch(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "understudy-agent:", err)
		os.Exit(1)
	}
}

func dispatch(args []string) error {
	command, rest := "", []string{}
	if len(args) > 0 {
		command, rest = args[0], args[1:]
	}
	switch {
	case command == "run" && len(rest) == 0:
		return run()
	case command == "guard" && len(rest) == 0:
		return runGuard()
	case command == "install" && len(rest) == 1:
		return install(rest[0])
	case command == "status" && len(rest) == 0:
		return status()
	case command == "crash" && len(rest) == 1:
		return crash(rest[0])
	}
	fmt.Fprint(os.Stderr, usage)
	return fmt.Errorf("unknown command %q", args)
}
