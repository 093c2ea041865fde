from envgraph import Environment, Workspace

conda = {"channels": ["conda-forge"], "dependencies": ["python=3.12"]}
train = Environment(name="train", image="scratch", conda_file=conda, tags={"team": "fraud"})

workspace = Workspace.open(".")
env = workspace.environments.create_or_update(train)
workspace.environments.label(env.name, env.version, "production")
for package in workspace.environments.get("train", label="production").packages:
    print(f"{env.reference}: {package.name} {package.version}")
