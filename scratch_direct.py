import sys; exec(open('scratch_batch.py').read().split("async def main")[0])
from kasal_jupyter.executions import verbs
async def main(n):
    tmp=Path(tempfile.mkdtemp())
    with Store.open(tmp,SCHEMAS) as store:
        crews=Crews(store)
        whole=await crews.create(CrewCreate.model_validate(crew_body()),"jupyter")
        runs=Runs(store,tmp,FakeBackend(),ModelCatalog(environ={}),limits=RunLimits(running=16,running_per_user=16))
        t=time.time(); c=time.process_time()
        it=iter(range(n))
        async def w():
            for i in it:
                await (verbs.once if sys.argv[2]=="once" else verbs.start)(runs,whole,{"topic":f"t{i}"},"jupyter")
        await asyncio.gather(*(w() for _ in range(16)))
        while runs.active: await asyncio.sleep(.05)
        print(time.time()-t, time.process_time()-c)
        await runs.close()
asyncio.run(main(int(sys.argv[1])))
