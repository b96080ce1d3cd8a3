def _jdk_test(ctx):
    classes = ctx.actions.declare_directory(ctx.label.name + ".classes")
    ctx.actions.run_shell(
        inputs = [ctx.file.src],
        outputs = [classes],
        mnemonic = "Javac",
        command = "javac -d %s %s" % (classes.path, ctx.file.src.path),
    )
    run = ctx.actions.declare_file(ctx.label.name + ".sh")
    ctx.actions.write(
        run,
        "#!/bin/sh\nexec java -cp %s %s\n" % (classes.short_path, ctx.attr.main),
        is_executable = True,
    )
    return [DefaultInfo(executable = run, runfiles = ctx.runfiles(files = [classes]))]

jdk_test = rule(
    implementation = _jdk_test,
    test = True,
    attrs = {"src": attr.label(allow_single_file = True), "main": attr.string()},
)
